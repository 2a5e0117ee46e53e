import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;

/** The JDK's client as it comes: it asks for h2c with every request. Prints a line for each answer. */
class JdkClient {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static String authorization;

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        authorization = arguments[1];
        String made = ask(url, "POST", "length", withLength("{\"title\": \"From Java\", \"completed\": true}"));
        String task = url + "/" + made.replaceAll(".*\"id\":\"([^\"]+)\".*", "$1");
        ask(task + "/complete", "PATCH", "length", withLength("{\"completed\": true}"));
        ask(task + "/complete", "PATCH", "chunked", inChunks("{\"completed\": true}"));
        ask(task + "/complete", "PATCH", "chunked", inChunks("{\"completed\": false}"));
        ask(url, "GET", "none", BodyPublishers.noBody());
        ask(task, "DELETE", "none", BodyPublishers.noBody());
    }

    private static String ask(String url, String method, String framing, BodyPublisher body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url)).method(method, body)
            .header("Authorization", authorization).header("Content-Type", "application/json").build();
        HttpResponse<String> answer = CLIENT.send(request, BodyHandlers.ofString());
        System.out.println(method + " " + framing + " " + answer.statusCode() + " " + answer.body());
        return answer.body();
    }

    private static BodyPublisher withLength(String body) {
        return BodyPublishers.ofString(body);
    }

    private static BodyPublisher inChunks(String body) {
        return BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body.getBytes()));
    }
}
