// A claim that the patient reports herself: report it, attach documents, accept or dispute, take it back.

import { Refusal, errand, onClick, post, said, say } from "/static/errand.js";
import { hex } from "/static/wire.js";

const at = (name) => document.getElementById(name);
const value = (name) => at(name).value.trim();
const limits = document.querySelector("[data-limits]")?.dataset;
const AGAIN = 3, LOOK_MS = 400;

onClick(at("report"), async () => {
  for (const field of at("report-form").querySelectorAll("input")) {
    if (!field.checkValidity()) { field.reportValidity(); return; }
  }
  const body = {
    pair: value("report-pair"), day: value("report-day"), hospital: value("report-hospital"), outpatient: at("report-outpatient").checked,
    number: value("report-number"), total: value("report-total"), public: value("report-public") || "0.00", other: "0.00", note: "",
  };
  await errand("/api/report", body, { kind: "parcel", claim: "", sends: ["report"] });
  location.assign("/reports");
});

/** A bar with its words; a screen reader hears a new word every tenth at most. */
function bar(card) {
  const box = card.querySelector("[data-moving]"), line = box.querySelector("progress"), text = box.querySelector("p");
  return {
    show(words, done, whole) {
      box.hidden = false;
      const percent = whole ? Math.floor(100 * done / whole) : 0;
      line.value = percent;
      const said_ = words.replace("{percent}", percent - percent % 10);
      if (text.textContent !== said_) text.textContent = said_;
    },
    hide() { box.hidden = true; },
  };
}

async function put(path, piece) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: piece });
  } catch { throw new Refusal("unavailable.wallet"); }
  const found = await answer.json().catch(() => ({ refused: { reason: "internal" } }));
  if (found.refused) throw new Refusal(found.refused.reason);
  return found.have;
}

/** One file to the wallet's server, piece by piece, from where it stopped; a piece that failed is sent again. */
async function upload(claim, file, moved) {
  const digest = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer())));
  const asked = { claim, name: file.name, type: file.type, size: file.size, digest };
  let { upload: called, have } = await post("/api/upload", asked), failed = 0;
  const piece = Number(limits.piece);
  while (have < file.size) {
    try {
      have = await put(`/api/upload/${called}?at=${have}`, file.slice(have, have + piece));
      failed = 0;
      moved(have);
    } catch (error) {
      // What arrived stays there for a while: the same file, chosen again, goes on.
      if (++failed === AGAIN || error.reason !== "unavailable.wallet") throw error;
    }
  }
  return called;
}

/** While an errand sends, how far it is. */
async function watched(shown, work) {
  const look = setInterval(async () => {
    const found = await post("/api/sent", {}).catch(() => null);
    if (found?.whole) shown.show(said["sending"], found.done, found.whole);
  }, LOOK_MS);
  try { return await work(); } finally { clearInterval(look); shown.hide(); }
}

async function attach(card, files) {
  const claim = card.dataset.report, whole = files.reduce((sum, file) => sum + file.size, 0);
  if (whole > Number(limits.most) || files.length > Number(limits.files)) { say(said["too-large"], "bad"); return; }
  const shown = bar(card), uploads = [];
  let before = 0;
  try {
    for (const file of files) {
      uploads.push(await upload(claim, file, (have) => shown.show(said["uploading"], before + have, whole)));
      before += file.size;
    }
    shown.show(said["sending"], 0, 1);
    const intent = { kind: "parcel", claim, sends: ["documents", "supplement"] };
    await watched(shown, () => errand("/api/attach", { claim, uploads }, intent));
  } finally { shown.hide(); }
  location.reload();
}

for (const card of document.querySelectorAll("[data-report]")) {
  const claim = card.dataset.report, files = card.querySelector("input[type=file]");
  onClick(card.querySelector("[data-attach]"), async () => {
    if (files.files.length) await attach(card, [...files.files]);
    else files.click();
  });
  for (const answer of ["accept", "dispute"]) {
    onClick(card.querySelector(`[data-${answer}]`), async () => {
      await errand("/api/answer", { claim, answer }, { kind: "parcel", claim, sends: [answer] });
      location.reload();
    });
  }
  onClick(card.querySelector("[data-takes-back]"), async (button) => {
    button.closest("dialog").close();
    const parcels = card.dataset.parcels.split(" ");
    const found = await errand("/api/withdraw", { claim }, { kind: "take back", parcels });
    sessionStorage.setItem("taken-back", String(found.told));
    location.reload();
  });
}

const unsent = at("unsent");
onClick(unsent?.querySelector("button"), async () => {
  await watched(bar(unsent), () => errand("/api/send", {}, { kind: "send" }));
  location.reload();
});

const told = sessionStorage.getItem("taken-back");
if (told !== null) {
  sessionStorage.removeItem("taken-back");
  say(said["taken-back"].replace("{count}", told));
}
