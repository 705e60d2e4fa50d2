// How a page speaks to the wallet's server: JSON, and errands in which this browser signs what it has checked.

import { base64, unbase64 } from "/static/wire.js";
import { KINDS, find, sign } from "/static/keys.js";
import { Differs, check } from "/static/check.js";

export const said = JSON.parse(document.getElementById("said").textContent);
export const origin = document.body.dataset.origin;

// A button does something, or it cannot be pressed: all wait until every script of the page has run.
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("[data-waits]")) button.disabled = false;
});

export class Refusal extends Error {
  constructor(reason) { super(reason); this.reason = reason; }
}

export async function post(path, body) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch { throw new Refusal("unavailable.wallet"); }
  // The door answers so, before any call is looked at: somebody signed out in another window, or the time is over.
  if (answer.status === 403) throw new Refusal("signed-out");
  const found = await answer.json().catch(() => ({ refused: { reason: "internal" } }));
  if (found.refused) throw new Refusal(found.refused.reason);
  return found;
}

/** Run an errand to its end; every payload that is to be signed is checked against `intent` first. */
export async function errand(path, body, intent) {
  let found = await post(path, body);
  while (found.sign) {
    // Keys that are not kept here, such as the recovery code's, are lent by whoever asked.
    const lent = (intent.lent ?? []).find((one) => one.public === found.sign.key);
    const kind = KINDS[found.sign.type], key = lent ?? await find(found.sign.key);
    if (!kind || !key) throw new Differs("no key of this browser");
    const own = await check(kind.name, unbase64(found.sign.payload), key, intent).catch(async (error) => {
      await post("/api/sign", { errand: found.errand, declined: true }).catch(() => null);
      throw error;
    });
    found = await post("/api/sign", { errand: found.errand, signature: base64(await sign(key, kind, own)) });
  }
  return found.done;
}

const status = document.getElementById("status");

/** Say something where a screen reader hears it and everybody sees it. */
export function say(text, state = "") {
  status.textContent = text;
  status.className = `notice ${state}`;
  status.hidden = !text;
  if (state === "bad") status.scrollIntoView({ block: "center" });
}

function meaning(error) {
  if (error instanceof Differs) return said["differs"];
  if (error instanceof Refusal) return said[`why-${error.reason}`] ?? `${said["refused"]} (${error.reason})`;
  return said["broken"];
}

/** Let a button do something: busy while it does, what went wrong in words. */
export function onClick(button, act) {
  button?.addEventListener("click", async () => {
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    say("");
    try { await act(button); } catch (error) { say(meaning(error), "bad"); }
    finally { button.removeAttribute("aria-busy"); }
  });
}

export async function readFile(file) {
  if (file.size > 4 << 20) throw new Refusal("usage.file");
  try { return JSON.parse(await file.text()); } catch { throw new Refusal("usage.file"); }
}

/** A link that saves a document. */
export function offer(link, name, document_) {
  link.href = URL.createObjectURL(new Blob([JSON.stringify(document_)], { type: "application/json" }));
  link.download = name;
}

export function drawQr(svg, { size, path }) {
  svg.setAttribute("viewBox", `-4 -4 ${size + 8} ${size + 8}`);
  svg.querySelector("path").setAttribute("d", path);
}
