/**
 * A chart over the steps of a stage, in the colours of the page, with what it shows in words and as
 * a table for those who do not see it.
 */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { formatCount, formatShortFigure } from "../../proto/cli/format.ts";

export interface Line {
  readonly name: string;
  /** A variable of page.css. */
  readonly colour: string;
  /** At each of `steps`; null where there is none. */
  readonly values: readonly (number | null)[];
  readonly isDashed?: boolean;
  readonly hasDots?: boolean;
}

export interface ChartProps {
  readonly title: string;
  readonly unit?: string;
  readonly steps: readonly number[];
  readonly lines: readonly Line[];
}

const HEIGHT = 220;
const ROWS_MAX = 12;

export function Chart({ title, unit = "", steps, lines }: ChartProps) {
  const figures = lines.flatMap(({ name, colour, values }) => {
    const last = values.findLast((value) => value !== null);
    return last === undefined || last === null ? [] : [{ name, colour, value: last }];
  });
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="legend">
          {figures.map(({ name, colour, value }) => (
            <span key={name}>
              <i class="swatch" style={{ background: `var(${colour})` }} />
              {name} <b>{formatShortFigure(value) + unit}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <Canvas steps={steps} lines={lines} />
      <ChartTable title={title} unit={unit} steps={steps} lines={lines} />
    </figure>
  );
}

function Canvas({ steps, lines }: Pick<ChartProps, "steps" | "lines">) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const data = [steps, ...lines.map(({ values }) => values)] as unknown as uPlot.AlignedData;
  const shape = lines.map(({ name }) => name).join();
  const newest = useRef(data);
  newest.current = data;

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const draw = (): void => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsOf(lines, element.clientWidth), newest.current, element);
    };
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const fit = new ResizeObserver(() => {
      plot.current?.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    draw();
    fit.observe(element);
    scheme.addEventListener("change", draw);
    return () => {
      scheme.removeEventListener("change", draw);
      fit.disconnect();
      plot.current?.destroy();
      plot.current = undefined;
    };
    // Lines come and go with `shape`; their points are set below.
  }, [shape]);
  useEffect(() => {
    plot.current?.setData(data);
  });
  return <div class="canvas" ref={place} aria-hidden="true" />;
}

function optionsOf(lines: readonly Line[], width: number): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: colour("--quiet"),
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { show: false },
    font: `11px ${style.fontFamily}`,
  };
  const figures = (_: uPlot, values: readonly number[]): string[] => values.map(formatShortFigure);
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: false } },
    padding: [8, 18, 0, 0],
    axes: [
      { ...axis, values: (_, values) => values.map((step) => formatCount(step)), size: 28 },
      { ...axis, values: figures, size: 56 },
    ],
    series: [
      {},
      ...lines.map((line): uPlot.Series => {
        return {
          label: line.name,
          stroke: colour(line.colour),
          width: 1.75,
          spanGaps: true,
          points: { show: line.hasDots ?? false, size: 5 },
          ...(line.isDashed ? { dash: [5, 4] } : {}),
        };
      }),
    ],
  };
}

/** The newest points; the drawing has them all. */
function ChartTable({ title, unit = "", steps, lines }: ChartProps) {
  const from = Math.max(0, steps.length - ROWS_MAX);
  const rows = steps.slice(from).map((step, index) => ({ step, index: from + index }));
  const points = `${steps.length} ${steps.length === 1 ? "point" : "points"}`;
  return (
    <details>
      <summary>
        {points} <span class="hidden">of {title}</span>
      </summary>
      <table class="points">
        <caption class="hidden">{`${title}, newest ${rows.length} of ${points}`}</caption>
        <thead>
          <tr>
            <th scope="col">Step</th>
            {lines.map(({ name }) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.toReversed().map(({ step, index }) => (
            <tr key={step}>
              <th scope="row">{formatCount(step)}</th>
              {lines.map(({ name, values }) => {
                const value = values[index];
                const isThere = value !== null && value !== undefined;
                return <td key={name}>{isThere ? formatShortFigure(value) + unit : "–"}</td>;
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
