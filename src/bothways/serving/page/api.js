// Asking the server. A newer question of the same kind takes the place of an older one.
import { signal } from "./dom.js";

const KEY = "bothways.key";
export const keyWanted = signal(false);

export const setKey = (key) => {
  sessionStorage.setItem(KEY, key);
  keyWanted.value = false;
};

export class Refused extends Error {
  constructor(sentence, status, wait) {
    super(sentence);
    this.status = status;
    this.wait = wait;
  }
}

export async function ask(path, body, signal) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...(body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, {
    method: body ? "POST" : "GET",
    headers,
    signal,
    credentials: "omit",
    body: body && JSON.stringify(body),
  });
  if (response.ok) return response.headers.get("content-type").startsWith("application/json") ? response.json() : response.text();
  if (response.status === 401) keyWanted.value = true;
  const told = await response.json().catch(() => ({}));
  throw new Refused(told.error || response.statusText, response.status, Number(response.headers.get("retry-after")) || 1);
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

// A function that asks after a pause, and only what was asked last.
export function latest(pause, work) {
  let timer, running;
  return (...given) => {
    clearTimeout(timer);
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    timer = setTimeout(() => work(signal, ...given), pause);
  };
}

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
