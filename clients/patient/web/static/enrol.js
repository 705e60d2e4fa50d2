// Enrolment: draw a key here, have it attested, put the recovery code away, enrol.

import { drawQr, errand, onClick, origin, post, readFile } from "/static/errand.js";
import { draw, keep, sha256 } from "/static/keys.js";
import { ROLES } from "/static/check.js";
import { drawCode, recoveryKey } from "/static/recovery.js";
import { hex } from "/static/wire.js";

const at = (name) => document.getElementById(name);
let key;

onClick(at("add-card"), async () => {
  const files = at("card-file").files;
  if (!files.length) { at("card-file").click(); return; }
  for (const file of files) await post("/api/card", { card: await readFile(file) });
  location.reload();
});
at("card-file").addEventListener("change", () => at("add-card").click());

onClick(at("draw"), async () => {
  const hospital = at("hospital").value, recipient = at("recipient").value;
  key = await draw(hospital, recipient);
  const found = await post("/api/draw", { hospital, recipient, key: key.public });
  Object.assign(key, { origin, wallet_key: found.wallet_key });
  await keep(key);
  at("subject-key").textContent = key.public.match(/.{1,8}/g).join(" ");
  at("subject-key").dataset.key = key.public;
  // The desk reads both: it attests the first, and seals to the second what it tells her at home.
  at("subject-key").dataset.both = `${key.public}.${found.wallet_key}`;
  drawQr(at("key-qr"), await post("/api/qr", { text: at("subject-key").dataset.both }));
  at("step-key").hidden = false;
  at("step-recovery").hidden = false;
  at("recovery-code").textContent = await drawCode();
  at("step-key").querySelector("h2").focus();
});

onClick(at("enrol"), async () => {
  const attestations = [];
  for (const file of at("attestation-files").files) attestations.push(await readFile(file));
  const subject = hex(await sha256(key.raw));
  const way_back = await recoveryKey(at("recovery-code").textContent, key.hospital, key.recipient, subject);
  const adds = { key: way_back.public, role: ROLES.recovery };
  const body = { key: key.public, attestations, recovery: way_back.public };
  await errand("/api/enrol", body, { kind: "enrol", adds, lent: [way_back] });
  at("recovery-code").textContent = "";
  for (const step of document.querySelectorAll(".step")) step.hidden = true;
  at("enrolled").hidden = false;
  at("enrolled").querySelector("h2").focus();
});

const ready = () => { at("enrol").disabled = !(at("kept-code").checked && at("attestation-files").files.length >= 2); };
at("kept-code").addEventListener("change", ready);
at("attestation-files").addEventListener("change", () => {
  const names = [...at("attestation-files").files].map((file) => file.name);
  at("picked").textContent = names.length ? at("picked").dataset.said.replace("{count}", names.length) + names.join("、") : "";
  ready();
});
onClick(at("pick-attestations"), async () => at("attestation-files").click());
