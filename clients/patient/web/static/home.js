// Home, a grant, accesses, statements: take requests in, end grants, look for news.

import { errand, onClick, post, readFile, said, say } from "/static/errand.js";

const take = document.getElementById("request-file");
take?.addEventListener("change", async () => {
  const button = document.getElementById("take");
  if (take.files.length) button.click();
});
onClick(document.getElementById("take"), async () => {
  const [file] = take.files;
  if (!file) { take.click(); return; }
  const found = await post("/api/requests", { request: await readFile(file) });
  location.assign(`/requests/${found.request}`);
});

onClick(document.getElementById("refresh"), async () => {
  const found = await errand("/api/refresh", {}, { kind: "refresh" });
  sessionStorage.setItem("looked", found.statements ? "news" : "no-news");
  location.reload();
});

for (const opener of document.querySelectorAll("[data-opens]")) {
  opener.addEventListener("click", () => document.getElementById(opener.dataset.opens).showModal());
}
for (const closer of document.querySelectorAll("[data-closes]")) {
  closer.addEventListener("click", () => closer.closest("dialog").close());
}
for (const button of document.querySelectorAll("[data-revoke]")) {
  onClick(button, async () => {
    const wanted = { grant: button.dataset.grant ?? "", hospital: button.dataset.hospital ?? "" };
    button.closest("dialog").close();
    const found = await errand("/api/revoke", wanted, { kind: "revoke", ...wanted });
    sessionStorage.setItem("ended", JSON.stringify(found));
    location.reload();
  });
}

// What is to be said outlives the page that it was learnt on.
const looked = sessionStorage.getItem("looked");
if (looked) {
  sessionStorage.removeItem("looked");
  say(said[looked]);
}
const ended = JSON.parse(sessionStorage.getItem("ended") ?? "null");
if (ended) {
  sessionStorage.removeItem("ended");
  say(said["ended"].replace("{count}", ended.grants.length).replace("{delivered}", ended.delivered).replace("{withheld}", ended.withheld));
}
