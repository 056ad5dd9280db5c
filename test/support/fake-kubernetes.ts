/**
 * The part of a Kubernetes API server that keeps Jobs, over real HTTP or HTTPS: it takes only what
 * comes with its token and fits the schemas, and has ids, versions, label selectors, pages and
 * preconditions as the real one has. It runs no pods; `onChange` tells of Jobs that were created
 * and deleted, and `setStatus` says what has become of one.
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import path from "node:path";
import type { V1Job, V1JobStatus } from "@kubernetes/client-node";
import { stringify } from "yaml";
import { type CertificateName, tlsFile } from "./certificates.ts";
import {
  KUBERNETES_VERSIONS,
  type KubernetesObject,
  openKubernetesSchema,
} from "./kubernetes-schemas.ts";

/** What happens to requests in place of an answer. */
export type Fault = "none" | "500" | "403" | "429" | "reset" | "silence";

export interface JobChange {
  readonly type: "created" | "deleted";
  readonly job: V1Job;
}

interface Reply {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

const TOKEN = "secret";
const PATH = /^\/apis\/batch\/v1\/namespaces\/([^/]+)\/jobs(?:\/([^/]+))?$/;

export class FakeKubernetes {
  /** Of requests from now on. */
  fault: Fault = "none";
  onChange: (change: JobChange) => void = () => {};
  /** "POST simclr/jobs" and the like, in the order of their coming. */
  readonly requests: string[] = [];
  readonly #jobs = new Map<string, V1Job>();
  readonly #checks = KUBERNETES_VERSIONS.map(openKubernetesSchema);
  readonly #server: Server;
  readonly #scheme: "http" | "https";
  #version = 0;

  private constructor(certificate: CertificateName | undefined) {
    const serve = (request: IncomingMessage, response: ServerResponse): void =>
      void this.#serve(request, response);
    this.#scheme = certificate === undefined ? "http" : "https";
    this.#server =
      certificate === undefined ? createServer(serve) : createTlsServer(pair(certificate), serve);
  }

  /** @param certificate with which it speaks HTTPS */
  static async start(certificate?: CertificateName): Promise<FakeKubernetes> {
    const fake = new FakeKubernetes(certificate);
    fake.#server.listen(0, "127.0.0.1");
    await once(fake.#server, "listening");
    return fake;
  }

  get port(): number {
    const address = this.#server.address();
    assert.ok(typeof address === "object" && address !== null);
    return address.port;
  }

  /** Writes a kubeconfig that leads here, and gives its name back. */
  async writeConfig(file: string, namespace = "simclr"): Promise<string> {
    const server = `${this.#scheme}://127.0.0.1:${this.port}`;
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "fake", cluster: { server, "insecure-skip-tls-verify": true } }],
      users: [{ name: "tester", user: { token: TOKEN } }],
      contexts: [{ name: "test", context: { cluster: "fake", user: "tester", namespace } }],
      "current-context": "test",
    };
    await writeFile(file, stringify(config));
    return file;
  }

  /**
   * Makes a folder as each pod has it for its service account, and gives its name back.
   *
   * @param ca whom the pod believes
   */
  async writeAccount(
    folder: string,
    { namespace = "simclr", ca = "ca" }: { readonly namespace?: string; readonly ca?: string } = {},
  ): Promise<string> {
    await mkdir(folder);
    await writeFile(path.join(folder, "token"), TOKEN);
    await writeFile(path.join(folder, "namespace"), namespace);
    await copyFile(tlsFile(`${ca}.pem`), path.join(folder, "ca.crt"));
    return folder;
  }

  jobs(): readonly V1Job[] {
    return [...this.#jobs.values()];
  }

  jobNames(): readonly string[] {
    return this.jobs().map(({ metadata }) => metadata?.name ?? "");
  }

  job(name: string): V1Job {
    const job = this.jobs().find(({ metadata }) => metadata?.name === name);
    assert.ok(job, `there is a Job ${name} among ${this.jobNames()}`);
    return job;
  }

  setStatus(name: string, status: V1JobStatus): void {
    const job = this.job(name);
    const namespace = job.metadata?.namespace;
    this.#jobs.set(`${namespace}/${name}`, { ...job, status });
  }

  /** Puts a Job there that somebody else has made. */
  add(job: V1Job): void {
    this.#keep(job.metadata?.namespace ?? "", job);
  }

  /** Somebody else deletes it. */
  remove(name: string): void {
    this.#jobs.delete(`${this.job(name).metadata?.namespace}/${name}`);
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "" } = request;
    const { pathname, searchParams } = new URL(url, "http://server");
    const [, namespace = "", name] = PATH.exec(pathname) ?? [];
    this.requests.push(`${method} ${namespace}/${name ?? "jobs"}`);
    const text = (await request.toArray()).map(String).join("");
    if (this.fault === "silence") return;
    if (this.fault === "reset") {
      request.socket.destroy();
      return;
    }
    const reply =
      this.#refusal(request) ??
      this.#faultyReply() ??
      this.#reply({ method, namespace, name, searchParams, text });
    const headers = { "content-type": "application/json", ...reply.headers };
    response.writeHead(reply.status, headers).end(JSON.stringify(reply.body));
  }

  #refusal({ headers }: IncomingMessage): Reply | undefined {
    return headers.authorization === `Bearer ${TOKEN}` ? undefined : failure(401, "Unauthorized");
  }

  #faultyReply(): Reply | undefined {
    switch (this.fault) {
      case "500":
        return failure(500, "etcdserver: request timed out");
      case "403":
        return failure(403, 'jobs.batch is forbidden: User "tester" cannot do that');
      case "429":
        return { ...failure(429, "too many requests"), headers: { "retry-after": "1" } };
      default:
        return undefined;
    }
  }

  #reply(request: {
    readonly method: string;
    readonly namespace: string;
    readonly name: string | undefined;
    readonly searchParams: URLSearchParams;
    readonly text: string;
  }): Reply {
    const { method, namespace, name, searchParams, text } = request;
    if (namespace === "") return failure(404, "the server could not find the requested resource");
    if (method === "POST" && name === undefined) return this.#create(namespace, text);
    if (method === "GET" && name === undefined) return this.#list(namespace, searchParams);
    const job = this.#jobs.get(`${namespace}/${name}`);
    if (!job) return failure(404, `jobs.batch "${name}" not found`);
    if (method === "GET") return { status: 200, body: job };
    if (method === "DELETE") return this.#delete(job, text);
    return failure(405, "the server does not allow this method on the requested resource");
  }

  #create(namespace: string, text: string): Reply {
    const job = JSON.parse(text) as V1Job & KubernetesObject;
    const problems = this.#checks.flatMap((check) => check(job));
    if (problems.length > 0) return failure(422, problems.join("; "));
    const name = job.metadata?.name ?? "";
    if (this.#jobs.has(`${namespace}/${name}`)) {
      return failure(409, `jobs.batch "${name}" already exists`);
    }
    const kept = this.#keep(namespace, job);
    this.onChange({ type: "created", job: kept });
    return { status: 201, body: kept };
  }

  #keep(namespace: string, job: V1Job): V1Job {
    this.#version += 1;
    const made = {
      namespace,
      uid: randomUUID(),
      resourceVersion: String(this.#version),
      creationTimestamp: new Date().toISOString() as unknown as Date,
    };
    const kept = { ...job, metadata: { ...job.metadata, ...made }, status: job.status ?? {} };
    this.#jobs.set(`${namespace}/${job.metadata?.name}`, kept);
    return kept;
  }

  #list(namespace: string, query: URLSearchParams): Reply {
    const wanted = (query.get("labelSelector") ?? "").split(",").filter((part) => part !== "");
    const fits = ({ metadata }: V1Job): boolean =>
      metadata?.namespace === namespace &&
      wanted.every((part) => {
        const [label = "", value] = part.split("=");
        return metadata.labels?.[label] === value;
      });
    const all = this.jobs().filter(fits);
    const begin = Number(query.get("continue") ?? 0);
    const end = begin + Number(query.get("limit") ?? all.length);
    const rest = end < all.length ? { continue: String(end) } : {};
    const metadata = { resourceVersion: String(this.#version), ...rest };
    const items = all.slice(begin, end);
    return { status: 200, body: { apiVersion: "batch/v1", kind: "JobList", metadata, items } };
  }

  #delete(job: V1Job, text: string): Reply {
    const { preconditions, propagationPolicy } = JSON.parse(text || "{}");
    const { name, namespace, uid } = job.metadata ?? {};
    if (preconditions?.uid !== uid) return failure(409, `the UID of ${name} is another one`);
    if (propagationPolicy !== "Background") return failure(422, "its pods would be left behind");
    this.#jobs.delete(`${namespace}/${name}`);
    this.onChange({ type: "deleted", job });
    return { status: 200, body: { apiVersion: "v1", kind: "Status", status: "Success" } };
  }
}

function failure(code: number, message: string): Reply {
  const body = { apiVersion: "v1", kind: "Status", status: "Failure", message, code };
  return { status: code, body };
}

function pair(name: CertificateName): { readonly cert: Buffer; readonly key: Buffer } {
  return { cert: readFileSync(tlsFile(`${name}.pem`)), key: readFileSync(tlsFile(`${name}.key`)) };
}
