import "./styles/base.css";
import "./styles/shell.css";
import "./styles/tasks.css";
import "./styles/history.css";
import "./styles/proof.css";
import "./styles/time.css";
import "./styles/learn.css";
import { render } from "preact";
import { App } from "./app";
import { followAddress } from "./route";
import { begin } from "./session";
import { followSession, warnBeforeLoss } from "./state";

begin(); // first: it takes the token out of the address
followAddress();
followSession();
warnBeforeLoss();
render(<App />, document.getElementById("app")!);
