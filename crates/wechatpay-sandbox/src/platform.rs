//! The public face: one request in, one answer (or none) out, in the order of the real one.
//!
//! route → headers → Authorization → fault before → endpoint → ledger → fault after → seal. What each step decides lives in
//! `check.rs`, `fault.rs`, `endpoints/` and `seal.rs`; connections live in `server.rs`, which calls [`Platform::serve`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, DATE, HeaderName, HeaderValue, RETRY_AFTER, SERVER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;

use crate::answer_body::AnswerBody;
use crate::check::{self, Head};
use crate::endpoints::{self, Ask};
use crate::fault::{Fault, Faults};
use crate::ledger::{Answer, Call};
use crate::refusal::Refusal;
use crate::remedy;
use crate::seal::{self, Twist};
use crate::world::{Moods, World};

/// Told of every call once its fate is decided.
pub(crate) type Observer = Arc<dyn Fn(&Call) + Send + Sync>;

/// Settings that do not change while the sandbox runs.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) sign_refusals: bool,
    pub(crate) keep_alive: Duration,
    pub(crate) observer: Option<Observer>,
}

/// The simulated platform: everything but the sockets.
pub(crate) struct Platform {
    pub(crate) world: Arc<World>,
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
}

/// How a request ends.
pub(crate) enum Ending {
    Reply(Response<AnswerBody>),
    /// RST.
    Reset,
    /// FIN without an answer.
    Close,
    /// Nothing, until the caller gives up.
    Silence,
}

/// What is answered, before headers and signature.
struct Outcome {
    status: StatusCode,
    body: Vec<u8>,
    refusal: Option<Refusal>,
    /// `None`: no `Wechatpay-*` headers.
    seal: Option<Twist>,
    retry_after_s: Option<u32>,
    /// What strikes the body on its way out.
    fault: Option<Fault>,
}

impl Platform {
    /// Forgets what happened in the business, and behaves.
    pub(crate) fn reset(&self) {
        let world = &self.world;
        world.members.clear();
        world.presences.clear();
        world.payments.clear();
        world.callbacks.clear();
        world.vehicles.clear();
        world.reminders.clear();
        *world.lock_moods() = Moods::default();
        self.faults.clear();
    }

    pub(crate) async fn serve(&self, request: Request<Incoming>) -> Ending {
        let (parts, body) = request.into_parts();
        let target = parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned();
        let head = Head {
            method: parts.method,
            target,
            headers: parts.headers,
        };
        let request_id = seal::random_text(32);
        let arrive = |body: Bytes| {
            self.world.ledger.arrive(
                self.world.clock.now(),
                head.method.clone(),
                head.target.clone(),
                body,
                request_id.clone(),
            )
        };
        let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let hint = format!("the body is longer than {MAX_BODY} bytes; the real limit is unknown");
                let refusal = Refusal::empty(413).hint(hint);
                return self.reply(arrive(Bytes::new()), &head, &request_id, Outcome::unsigned(refusal));
            }
            // The caller went away or stalled in the middle: there was no call.
            Ok(Err(_)) | Err(_) => return Ending::Close,
        };
        let number = arrive(body.clone());
        self.handle(number, &head, &body, &request_id).await
    }

    async fn handle(&self, number: u64, head: &Head, body: &Bytes, request_id: &str) -> Ending {
        let world = &self.world;
        let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
        let routed = endpoints::find(&head.method, path).and_then(|route| {
            check::headers(head)?;
            let certificate = world.moods().certificate;
            check::authenticate(head, body, world.clock.wire_now(), &world.identity, certificate)?;
            Ok(route)
        });
        let route = match routed {
            Ok(route) => route,
            Err(refusal) => return self.reply(number, head, request_id, Outcome::unsigned(refusal)),
        };

        let fault = self.faults.draw(path);
        if let Some(fault) = &fault {
            world.ledger.struck(number, fault);
            if let Some(ending) = self.strike_before(number, head, request_id, fault).await {
                return ending;
            }
        }

        let ask = Ask {
            number,
            now: world.clock.now(),
            variable: &route.variable,
            query,
            body,
            named_key: named_key(head),
        };
        let outcome = match (route.handler)(world, &ask) {
            Ok(reply) => {
                world.ledger.commit(number);
                if let Some(ending) = self.strike_after(number, fault.as_ref()) {
                    return ending;
                }
                let seal = (fault != Some(Fault::Unsigned)).then(|| fault.as_ref().map_or(Twist::None, Fault::twist));
                let spoils_body = matches!(fault, Some(Fault::TruncatedBody | Fault::OversizedBody(_)));
                Outcome {
                    // A 204 has no body to spoil.
                    status: if spoils_body { StatusCode::OK } else { reply.status },
                    body: reply.body,
                    refusal: None,
                    seal,
                    retry_after_s: None,
                    fault,
                }
            }
            Err(refusal) => self.refused(refusal),
        };
        self.reply(number, head, request_id, outcome)
    }

    /// Faults that strike before anything is written. `None`: go on.
    async fn strike_before(&self, number: u64, head: &Head, request_id: &str, fault: &Fault) -> Option<Ending> {
        if let Fault::Latency(latency) = fault {
            tokio::time::sleep(*latency).await;
            return None;
        }
        if let Some(refusal) = fault.refusal() {
            let retry_after_s = if let Fault::RateLimited { retry_after_s } = fault {
                *retry_after_s
            } else {
                None
            };
            let outcome = if refusal.code.is_empty() {
                Outcome::unsigned(refusal)
            } else {
                self.refused(refusal)
            };
            return Some(self.reply(
                number,
                head,
                request_id,
                Outcome {
                    retry_after_s,
                    ..outcome
                },
            ));
        }
        if *fault == Fault::ResetBeforeCommit {
            self.finish(number, Answer::Reset, None, None);
            return Some(Ending::Reset);
        }
        if *fault == Fault::NoAnswerBeforeCommit {
            self.finish(number, Answer::Silent, None, None);
            return Some(Ending::Silence);
        }
        None
    }

    /// Faults that swallow the answer of a call that was carried out.
    fn strike_after(&self, number: u64, fault: Option<&Fault>) -> Option<Ending> {
        if fault == Some(&Fault::DropReplyAfterCommit) {
            self.finish(number, Answer::Dropped, None, None);
            return Some(Ending::Close);
        }
        if fault == Some(&Fault::ResetAfterCommit) {
            self.finish(number, Answer::Dropped, None, None);
            return Some(Ending::Reset);
        }
        if fault == Some(&Fault::NoAnswer) {
            self.finish(number, Answer::Silent, None, None);
            return Some(Ending::Silence);
        }
        None
    }

    /// A refusal after authentication. Whether the real one signs these is unverified (protocol 3.6): a setting.
    fn refused(&self, refusal: Refusal) -> Outcome {
        Outcome {
            seal: self.settings.sign_refusals.then_some(Twist::None),
            ..Outcome::unsigned(refusal)
        }
    }

    fn reply(&self, number: u64, head: &Head, request_id: &str, outcome: Outcome) -> Ending {
        let now = self.world.clock.wire_now();
        let body = outcome.body;
        let mut response = Response::new(AnswerBody::whole(Vec::new()));
        *response.status_mut() = outcome.status;
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("request-id"), header(request_id));
        headers.insert(
            HeaderName::from_static("x-wechatpay-sandbox"),
            HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
        );
        headers.insert(DATE, header(&http_date(now)));
        // As the captures have them.
        headers.insert(SERVER, HeaderValue::from_static("nginx"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, must-revalidate"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("zh-CN"));
        let keep_alive = format!("timeout={}", self.settings.keep_alive.as_millis().div_ceil(1000));
        headers.insert(HeaderName::from_static("keep-alive"), header(&keep_alive));
        if !body.is_empty() {
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/json; charset=utf-8"),
            );
        }
        if let Some(seconds) = outcome.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(twist) = outcome.seal {
            let (keys, status) = (&self.world.keys, outcome.status.as_u16());
            keys.seal_answer(headers, named_key(head), status, &body, twist);
        }
        *response.body_mut() = match &outcome.fault {
            Some(fault) => fault.body(body),
            None => AnswerBody::whole(body),
        };
        self.finish(
            number,
            Answer::Sent,
            Some(outcome.status.as_u16()),
            outcome.refusal.as_ref(),
        );
        Ending::Reply(response)
    }

    fn finish(&self, number: u64, answer: Answer, status: Option<u16>, refusal: Option<&Refusal>) {
        let call = self.world.ledger.finish(number, answer, status, refusal);
        if let (Some(observer), Some(call)) = (&self.settings.observer, call) {
            observer(&call);
        }
    }
}

impl Outcome {
    fn unsigned(refusal: Refusal) -> Self {
        // A test may ask for any number as status; what HTTP cannot carry becomes 500.
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            body: refusal.body(),
            refusal: Some(remedy::explained(refusal)),
            seal: None,
            retry_after_s: None,
            fault: None,
        }
    }
}

fn named_key(head: &Head) -> &str {
    let named = head.headers.get("wechatpay-serial");
    named.and_then(|named| named.to_str().ok()).unwrap_or_default()
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids, dates and digits are header text")
}

fn http_date(now: Timestamp) -> String {
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Ours: the real limit is unknown.
const MAX_BODY: usize = 1 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
