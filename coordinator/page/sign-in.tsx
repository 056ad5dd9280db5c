/** Shows the operator token to the coordinator, once. */

import { useState } from "preact/hooks";
import type { SessionView } from "../http/api-routes.ts";
import { askApi } from "./ask-api.ts";

export function SignIn(props: {
  readonly access: SessionView["access"];
  readonly next: string;
  readonly onSignedIn: () => void;
}) {
  const { access, next, onSignedIn } = props;
  const [problem, setProblem] = useState("");
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const token = String(new FormData(form).get("token") ?? "");
    try {
      await askApi("login", { token });
      onSignedIn();
      // Bull Board is another page, all else are views of this one.
      if (next.startsWith("#")) location.hash = next;
      else location.assign(next.replace(/^\//, ""));
    } catch (thrown) {
      setProblem((thrown as Error).message);
    }
  };
  return (
    <section class="card sign-in">
      <h1 tabIndex={-1}>Sign in</h1>
      {access === "read-only" ? (
        <>
          <p>This coordinator has no operator token, so this page only shows. Start it with one:</p>
          <pre class="command">SIMCLR_OPERATOR_TOKEN=… npx coordinator start</pre>
        </>
      ) : (
        <form onSubmit={(event) => void submit(event as SubmitEvent)}>
          <label for="token">Operator token</label>
          <input
            id="token"
            name="token"
            type="password"
            autocomplete="current-password"
            required
            aria-describedby="problem"
            aria-invalid={problem !== ""}
          />
          <p id="problem" role="alert" class="problem">
            {problem}
          </p>
          <button type="submit" class="primary">
            Sign in
          </button>
        </form>
      )}
    </section>
  );
}
