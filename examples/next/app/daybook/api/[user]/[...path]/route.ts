import { proxy } from "@/lib/proxy";

async function handle(request: Request, { params }: RouteContext<"/daybook/api/[user]/[...path]">): Promise<Response> {
  const { user, path } = await params;
  return proxy(request, user, path);
}

export { handle as DELETE, handle as GET, handle as HEAD, handle as PATCH, handle as POST, handle as PUT };
