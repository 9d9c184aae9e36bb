// Passkeys: asks the browser for one, and sends its answer with the form.
"use strict";

const HINTS = {
  NotAllowedError: "No passkey was used.",
  InvalidStateError: "This device has a passkey for you already.",
  SecurityError: "Passkeys need a host name with HTTPS, or localhost.",
};

const fromBase64 = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (character) => character.charCodeAt(0));
const toBase64 = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=+$/, "");

const withBytes = (descriptors = []) => descriptors.map((one) => ({ ...one, id: fromBase64(one.id) }));

async function add({ creation_options: { publicKey: options } }) {
  const credential = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: fromBase64(options.challenge),
      user: { ...options.user, id: fromBase64(options.user.id) },
      excludeCredentials: withBytes(options.excludeCredentials),
      // So that it can be used without a password.
      authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
    },
  });
  return {
    ...common(credential),
    response: {
      clientDataJSON: toBase64(credential.response.clientDataJSON),
      attestationObject: toBase64(credential.response.attestationObject),
      transports: credential.response.getTransports?.() ?? [],
    },
  };
}

async function use({ request_options: { publicKey: options } }) {
  const credential = await navigator.credentials.get({
    publicKey: {
      ...options,
      challenge: fromBase64(options.challenge),
      allowCredentials: withBytes(options.allowCredentials),
    },
  });
  const { clientDataJSON, authenticatorData, signature, userHandle } = credential.response;
  return {
    ...common(credential),
    response: {
      clientDataJSON: toBase64(clientDataJSON),
      authenticatorData: toBase64(authenticatorData),
      signature: toBase64(signature),
      userHandle: userHandle ? toBase64(userHandle) : null,
    },
  };
}

const common = (credential) => ({
  id: credential.id,
  rawId: toBase64(credential.rawId),
  type: credential.type,
  clientExtensionResults: credential.getClientExtensionResults(),
});

async function options(form) {
  if (form.dataset.passkey !== "log-in") return JSON.parse(document.getElementById("passkey-options").textContent);
  const response = await fetch(form.action, { headers: { Accept: "application/json" } });
  const found = await response.json();
  if (!response.ok) throw new Error(found.detail);
  return found;
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  if (!window.PublicKeyCredential) continue;
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    const hint = form.querySelector("[role=status]");
    hint.textContent = "";
    try {
      const ask = form.dataset.passkey === "add" ? add : use;
      form.elements.credential.value = JSON.stringify(await ask(await options(form)));
      form.submit();
    } catch (error) {
      hint.textContent = HINTS[error.name] ?? error.message;
    }
  });
}
