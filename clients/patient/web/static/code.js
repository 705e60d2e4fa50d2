// The direct-pay code: signed here every 45 s; it is good until 90 s after.

import { drawQr, errand, onClick, said, say } from "/static/errand.js";

const FRESH_S = 45, ONLINE_S = 60;
const at = (name) => document.getElementById(name);
const board = at("code");
let left = 0, lastly = 0;

const hospital = () => document.querySelector("input[name=hospital]:checked")?.value ?? board.dataset.hospital;

async function show() {
  left = FRESH_S;
  const found = await errand("/api/code", { hospital: hospital() }, { kind: "code", hospital: hospital() });
  drawQr(at("code-qr"), found);
  board.dataset.text = found.text;
  at("code-count").textContent = at("code-count").dataset.said.replace("{count}", found.tickets);
  board.hidden = false;
}

async function tick() {
  left -= 1;
  at("left").textContent = said["fresh"].replace("{seconds}", Math.max(0, left));
  at("left-bar").value = Math.max(0, left);
  if (lastly > 0) {
    lastly -= 1;
    at("digits-left").textContent = said["digits-left"].replace("{seconds}", lastly);
    if (!lastly) at("digits").textContent = "";
  }
  if (left <= 0 && !document.hidden) await show().catch(() => say(said["broken"], "bad"));
}

if (board) {
  show().catch((error) => say(said[`why-${error.reason}`] ?? said["broken"], "bad"));
  setInterval(tick, 1000);
  for (const one of document.querySelectorAll("input[name=hospital]")) one.addEventListener("change", show);
  onClick(at("online"), async () => {
    const found = await errand("/api/online", { hospital: hospital() }, { kind: "code", hospital: hospital() });
    at("digits").textContent = found.digits;
    lastly = ONLINE_S;
  });
}
