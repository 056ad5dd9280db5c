/** What stands where there is nothing yet: what to do next. */

import type { ComponentChildren } from "preact";

export function Empty(props: {
  readonly title: string;
  readonly command?: string;
  readonly children?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <p>
        <strong>{props.title}</strong>
      </p>
      {props.children}
      {props.command ? <pre class="command">{props.command}</pre> : null}
    </div>
  );
}
