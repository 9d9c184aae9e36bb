// Waits for the first connection, on the page with the first steps.
"use strict";

const INTERVAL_MILLISECONDS = 2_000;

const region = document.getElementById("connection");

async function look() {
  if (document.hidden) return;
  try {
    const response = await fetch(region.dataset.url);
    if (!response.ok || response.redirected) return;
    const html = await response.text();
    // Only a change is read out to people who do not see the page.
    if (html.trim() !== region.innerHTML.trim()) region.innerHTML = html;
  } catch {
    // The next look may find the server again.
  }
}

document.getElementById("check").hidden = true;
document.getElementById("updates").hidden = false;
setInterval(look, INTERVAL_MILLISECONDS);
