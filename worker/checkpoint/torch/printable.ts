const LENGTH_MAX = 80;

/** A name out of a stranger's file, so that it can do no harm to a terminal or a log. */
export function printable(name: string): string {
  const plain = name.slice(0, LENGTH_MAX).replaceAll(/[^ -~]/g, "?");
  return name.length > LENGTH_MAX ? `${plain}...` : plain;
}
