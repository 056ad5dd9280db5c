/**
 * From an encoded image to its views in the batch, all in the memory of one canvas.
 *
 * A JPEG is decoded right into it, and a large one only as finely as its views need: libjpeg-turbo
 * scales by 2, 4 or 8 while it decodes, in a fraction of the time. What is then left to resize is
 * still {@link REDUCING_GAP} times the view. Measured on photographs, that moves a view's pixels by
 * 0.2 levels on average, 0.45 in the worst view, and single ones by up to 12.
 */

import { Canvas } from "./augment/canvas.ts";
import { resizeCenterCrop, shortEdgeSize } from "./augment/resize.ts";
import type { RgbImage, Size } from "./augment/rgb-image.ts";
import { drawLinearView, drawView, paintView, type ViewPlan } from "./augment/view.ts";
import { type Denominator, JpegDecoder, scaledSize } from "./jpeg-decoder.ts";
import type { LoadPlan } from "./load-plan.ts";
import { RandomStream } from "./random-stream.ts";

/** Number of the linear stage's view in the random streams; pre-training has views 0 and 1. */
const LINEAR_VIEW = 2;
const REDUCING_GAP = 4;
const DENOMINATORS: readonly Denominator[] = [8, 4, 2];

/** What the views of an image depend on, beside the recipe's seed. */
export interface ViewKey {
  readonly epoch: number;
  /** Number of the image in the data set. */
  readonly index: number;
}

/** Where decoded images are kept for later epochs. */
export interface ImageKeeper {
  wants(size: Size): boolean;
  take(image: RgbImage): void;
}

/** What is left to chance in each view of an image; a validation view has no plan. */
export function drawViews(plan: LoadPlan, image: Size, key: ViewKey): readonly ViewPlan[] {
  const { seed } = plan;
  switch (plan.kind) {
    case "pretrain":
      return [0, 1].map((view) =>
        drawView(image, plan.augmentation, new RandomStream({ ...key, seed, view })),
      );
    case "linear":
      return [drawLinearView(image, plan, new RandomStream({ ...key, seed, view: LINEAR_VIEW }))];
    case "validation":
      return [];
  }
}

/** One per loader thread. */
export class ViewMaker {
  readonly #plan: LoadPlan;
  readonly #draw: (image: Size, key: ViewKey) => readonly ViewPlan[];
  readonly #canvas: Canvas;
  readonly #jpeg = JpegDecoder.open();

  /** @param draw what to make of an image, if not the plan's own views */
  constructor(
    plan: LoadPlan,
    draw = (image: Size, key: ViewKey): readonly ViewPlan[] => drawViews(plan, image, key),
  ) {
    this.#plan = plan;
    this.#draw = draw;
    this.#canvas = new Canvas({ width: plan.imageSize, height: plan.imageSize });
  }

  close(): void {
    this.#jpeg?.close();
  }

  /**
   * Makes the views of a decoded image.
   *
   * @param target receives [views, 3, size, size]
   */
  paint(image: RgbImage, key: ViewKey, target: Uint8Array): void {
    this.#canvas.load(image);
    this.#paint(this.#draw(image, key), image, 1, target);
  }

  /**
   * Makes the views of an encoded image, if it is a JPEG that can be decoded here.
   *
   * @param keep takes the image at its full size, if it wants one of that size; else it may be
   *   decoded at a smaller one. The pixels are valid during the call only.
   * @returns false if nothing was done; `decodeImage` will do
   */
  paintJpeg(bytes: Buffer, key: ViewKey, target: Uint8Array, keep?: ImageKeeper): boolean {
    const jpeg = this.#jpeg;
    const whole = jpeg?.sizeOf(bytes);
    if (jpeg === undefined || whole === undefined) return false;
    const views = this.#draw(whole, key);
    const isKept = keep?.wants(whole) === true;
    const denominator = isKept ? 1 : this.#denominatorFor(whole, views);
    const size = scaledSize(whole, denominator);
    const data = this.#canvas.openSource(size);
    if (!jpeg.decode(bytes, size, data)) return false;
    if (isKept) keep.take({ ...size, data });
    this.#paint(views, whole, 1 / denominator, target);
    return true;
  }

  /** @param scale of the canvas's source, which is the image otherwise */
  #paint(views: readonly ViewPlan[], image: Size, scale: number, target: Uint8Array): void {
    const plan = this.#plan;
    if (plan.kind === "validation") {
      resizeCenterCrop(this.#canvas, plan.resizeEdge, image, scale);
      this.#canvas.copyTo(target);
      return;
    }
    const viewBytes = 3 * plan.imageSize ** 2;
    for (const [i, view] of views.entries()) {
      paintView(this.#canvas, view, scale);
      this.#canvas.copyTo(target.subarray(i * viewBytes, (i + 1) * viewBytes));
    }
  }

  /** The largest by which what is needed of the image remains large enough. */
  #denominatorFor(whole: Size, views: readonly ViewPlan[]): Denominator {
    const plan = this.#plan;
    if (!plan.scaledDecoding) return 1;
    const square = { width: plan.imageSize, height: plan.imageSize };
    const resizings =
      plan.kind === "validation"
        ? [{ from: whole, to: shortEdgeSize(whole, plan.resizeEdge) }]
        : views.map(({ crop }) => ({ from: crop, to: square }));
    const isEnough = (denominator: number): boolean =>
      resizings.every(
        ({ from, to }) =>
          from.width >= REDUCING_GAP * denominator * to.width &&
          from.height >= REDUCING_GAP * denominator * to.height,
      );
    return DENOMINATORS.find(isEnough) ?? 1;
  }
}
