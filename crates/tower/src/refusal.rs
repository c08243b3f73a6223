//! A handler's "no" in the words of the catalogue.
//!
//! A handler answers with [`refuse`]. The layer around it recognises the answer and says it again as the runner says its
//! own refusals: in the house's JSON or as RFC 9457 by `Accept`, with the request id, with the strict security headers,
//! with its code in the access log. Fields that the handler added (`WWW-Authenticate`) stay.
//!
//! Invariant: the client's text is the catalogue's; nothing that a handler knows gets into the body.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use portcullis_core::refusal::Refusal;
use portcullis_core::refusal::render::{Form, body};

use crate::clock::unix_millis;

/// What [`refuse`] makes. An axum handler may return it as it is, also as an error.
pub type RefusalResponse = Response<RefusalBody>;

/// The body of a [`RefusalResponse`]: the house's JSON.
///
/// Boxed, so that a `Result` of a handler stays small.
#[derive(Debug)]
pub struct RefusalBody(Option<Box<Bytes>>);

/// A refusal and who said it, in the extensions of its response.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) by: &'static str,
    pub(crate) refusal: Refusal,
}

/// Who says what a handler refuses, in the trail and the log.
pub(crate) const SERVICE: &str = "service";

/// Answers with `refusal`. Anything that becomes one will do: a [`crate::CallError`] of a client call, a `Fault`.
///
/// Where no layer of this crate is around the handler the answer has no request id and is always the house's JSON.
#[must_use]
pub fn refuse(refusal: impl Into<Refusal>) -> RefusalResponse {
    let refusal = refusal.into();
    let form = Form::Json;
    let bytes = Bytes::from(body(&refusal, form, unix_millis(), ""));
    let mut response = Response::new(RefusalBody(Some(Box::new(bytes))));
    *response.status_mut() = status_of(&refusal);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = refusal.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = refusal.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        headers.insert(ALLOW, allow);
    }
    response.extensions_mut().insert(Said { by: SERVICE, refusal });
    response
}

/// The refusal that a response is, if it is one: said by a handler through [`refuse`], or by a layer of this crate.
#[must_use]
pub fn refusal_of<B>(response: &Response<B>) -> Option<&Refusal> {
    response.extensions().get::<Said>().map(|said| &said.refusal)
}

fn status_of(refusal: &Refusal) -> StatusCode {
    StatusCode::from_u16(refusal.code.entry().status).expect("the catalogue holds valid statuses")
}

impl Body for RefusalBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(*bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
