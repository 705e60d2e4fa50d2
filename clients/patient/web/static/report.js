// A claim that the patient reports herself: report it, attach documents, accept or dispute what was decided.

import { errand, onClick, said, say } from "/static/errand.js";
import { base64 } from "/static/wire.js";

const LARGEST = 5 << 20;
const at = (name) => document.getElementById(name);
const value = (name) => at(name).value.trim();

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

for (const card of document.querySelectorAll("[data-report]")) {
  const claim = card.dataset.report, files = card.querySelector("input[type=file]");
  onClick(card.querySelector("[data-attach]"), async () => {
    if (!files.files.length) { files.click(); return; }
    const read = [];
    for (const file of files.files) {
      if (file.size > LARGEST) { say(said["too-large"], "bad"); return; }
      read.push({ name: file.name, type: file.type, data: base64(new Uint8Array(await file.arrayBuffer())) });
    }
    await errand("/api/attach", { claim, files: read }, { kind: "parcel", claim, sends: ["documents", "supplement"] });
    location.reload();
  });
  for (const answer of ["accept", "dispute"]) {
    onClick(card.querySelector(`[data-${answer}]`), async () => {
      await errand("/api/answer", { claim, answer }, { kind: "parcel", claim, sends: [answer] });
      location.reload();
    });
  }
}
