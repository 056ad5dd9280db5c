/** A table that becomes a list of cards where there is no room for its columns. */

import type { ComponentChildren } from "preact";

export interface Column<Row> {
  readonly label: string;
  /** Undefined where there is nothing to tell: cards leave it out. */
  readonly cell: (row: Row) => ComponentChildren;
  readonly isNumber?: boolean;
  /** Names the row: the title of its card. */
  readonly isTitle?: boolean;
}

export interface DataTableProps<Row> {
  /** What the table is of, for those who do not see where it stands. */
  readonly caption: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string;
}

export function DataTable<Row>({ caption, columns, rows, keyOf }: DataTableProps<Row>) {
  return (
    <table class="data">
      <caption class="hidden">{caption}</caption>
      <thead>
        <tr>
          {columns.map(({ label, isNumber }) => (
            <th key={label} scope="col" class={isNumber ? "number" : ""}>
              {label}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)}>
            {columns.map((column) => (
              <Cell key={column.label} column={column} row={row} />
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Cell<Row>({ column, row }: { readonly column: Column<Row>; readonly row: Row }) {
  const { label, cell, isNumber, isTitle } = column;
  const content = cell(row);
  const classes = [
    ...(isNumber ? ["number"] : []),
    ...(isTitle ? ["title"] : []),
    ...(content === undefined ? ["nothing"] : []),
  ];
  return (
    <td data-label={label} class={classes.join(" ")}>
      {content ?? "–"}
    </td>
  );
}
