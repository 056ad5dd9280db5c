/** What browsers may do with our answers: nothing but what the page itself needs. */

import type { RequestHandler } from "express";

const POLICY = {
  "default-src": "'self'",
  "img-src": "'self' data:",
  "object-src": "'none'",
  "base-uri": "'none'",
  "form-action": "'self'",
  "frame-ancestors": "'none'",
} as const;

/** Bull Board's page has styles in its markup, and says where it lies. */
const BOARD_POLICY = {
  ...POLICY,
  "style-src": "'self' 'unsafe-inline'",
  "base-uri": "'self'",
} as const;

const HEADERS = {
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Resource-Policy": "same-origin",
} as const;

export const securityHeaders: RequestHandler = (_, response, next) => {
  response.set({ ...HEADERS, "Content-Security-Policy": write(POLICY) });
  next();
};

export const boardPolicy: RequestHandler = (_, response, next) => {
  response.set("Content-Security-Policy", write(BOARD_POLICY));
  next();
};

function write(policy: Readonly<Record<string, string>>): string {
  return Object.entries(policy)
    .map(([directive, sources]) => `${directive} ${sources}`)
    .join("; ");
}
