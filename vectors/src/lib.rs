//! Holds an implementation of WeChat Pay APIv3 to known facts.
//!
//! The facts are the vector files described in this folder's README.md: signatures, ciphertexts, digests. An
//! implementation answers [`Implementation`]'s questions; the checker asks them and compares. The checker does no
//! cryptography and knows no implementation, so the SDK and the sandbox can both be held to it without meeting.

mod implementation;

pub use implementation::{
    Answer, Authorization, Certificate, HeldKey, Implementation, Notification, PlatformCertificate, PublicKey,
    Received, Refusal, Request, Signer,
};
