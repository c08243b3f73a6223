//! A circuit breaker around a client: leaves a service alone that is failing.
//!
//! [`BreakerLayer`] goes around whatever sends requests out (hyper's client, a stack of your own). Each call asks the
//! breaker first, has a time, and reports one verdict: by the status of the answer, by the error, or as too slow.
//! The breaker is the gateway's, with its config, its metrics (`circuit_breaker_state{service="payments"}`) and its words.
//! What tries again goes around the layer, so that every attempt is asked for and reported; what limits how many calls
//! run at once does too, so that waiting for a place is not taken for a slow service.
//!
//! Invariant: while the breaker is open nothing is sent and the inner service is not even asked whether it is ready.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use portcullis_core::clock::Clock;
use portcullis_core::fault::Fault;
use portcullis_core::refusal::Refusal;
use portcullis_guards::breaker::{self, Breaker, OwnedPermit, Verdict, judge};
use portcullis_guards::config::Mistake;
use tower_layer::Layer;
use tower_service::Service;

use crate::BoxError;
use crate::layer::Mistakes;
use crate::standing::Standing;

/// How much longer than a call may take a probe keeps its place.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// The longest time of a call that can be asked for.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// A circuit breaker around a client. Clones, and all services made of it, share one breaker.
#[derive(Clone)]
pub struct BreakerLayer {
    watch: Arc<Watch>,
}

struct Watch {
    service: Arc<str>,
    /// `None` when the config says that there is none; the time of a call holds all the same.
    breaker: Option<Arc<Breaker>>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    classify: fn(&(dyn Error + 'static)) -> Fault,
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The breaker is open: nothing was sent.
    #[error("`{service}` was not called, because its circuit breaker is open for another {} ms", retry_after_nanos.div_ceil(1_000_000))]
    Open {
        /// Which service.
        service: Arc<str>,
        /// How long to wait before asking again, in nanoseconds.
        retry_after_nanos: u64,
    },
    /// There was no response head in time.
    #[error("`{service}` did not answer within {timeout:?}")]
    TooSlow {
        /// Which service.
        service: Arc<str>,
        /// The time it had.
        timeout: Duration,
    },
    /// The client failed.
    #[error("calling `{service}` failed")]
    Failed {
        /// Which service.
        service: Arc<str>,
        /// What the error was taken for.
        fault: Fault,
        /// The client's own error.
        source: BoxError,
    },
}

/// What a client is told where its request could not be served without the call.
impl From<&CallError> for Refusal {
    fn from(error: &CallError) -> Refusal {
        match error {
            CallError::Open { retry_after_nanos, .. } => Refusal::circuit_open(*retry_after_nanos),
            CallError::TooSlow { .. } => Fault::FirstByteTimeout.into(),
            CallError::Failed { fault, .. } => (*fault).into(),
        }
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Refusal {
        Refusal::from(&error)
    }
}

impl BreakerLayer {
    /// A breaker for `service`, its name in metrics and errors. A call must bring a response head within `timeout` (up to
    /// 1 h), or it counts as a failure. Keep it shorter than what the caller waits: a call that is dropped before says
    /// nothing about the service.
    ///
    /// A second layer of the same name with the same settings shares the breaker, one with others has its own.
    ///
    /// # Errors
    /// Every setting that is out of bounds.
    pub fn new(
        service: &str,
        config: &breaker::Config,
        timeout: Duration,
        standing: &Standing,
    ) -> Result<BreakerLayer, Mistakes> {
        let compiled = config.compile(timeout.saturating_add(LEASE_MARGIN));
        let mut mistakes = Vec::new();
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            mistakes.push(Mistake::new("timeout", format!("{timeout:?} is out of bounds: more than 0s, at most 1h")));
        }
        let rules = compiled.unwrap_or_else(|wrong| {
            mistakes.extend(wrong.into_iter().map(|(field, message)| Mistake::new(field, message)));
            None
        });
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        let watch = Watch {
            service: Arc::from(service),
            breaker: rules.map(|rules| standing.ground().breakers.get_or_add(service, rules)),
            timeout,
            clock: Arc::clone(standing.clock()),
            classify: fault_of,
        };
        Ok(BreakerLayer { watch: Arc::new(watch) })
    }

    /// How the client's errors are read, in place of [`fault_of`]. A fault that is the caller's own (`Fault::blame`) does
    /// not count against the service.
    #[must_use]
    pub fn classify(self, classify: fn(&(dyn Error + 'static)) -> Fault) -> BreakerLayer {
        let Watch { service, breaker, timeout, clock, .. } = &*self.watch;
        let watch = Watch {
            service: Arc::clone(service),
            breaker: breaker.clone(),
            timeout: *timeout,
            clock: Arc::clone(clock),
            classify,
        };
        BreakerLayer { watch: Arc::new(watch) }
    }

    /// Where the breaker stands; `None` when the config turned it off. Changes nothing.
    #[must_use]
    pub fn snapshot(&self) -> Option<breaker::Snapshot> {
        self.watch.breaker.as_ref().map(|breaker| breaker.snapshot(self.watch.now_nanos()))
    }
}

/// Reads a client's error by the causes in it: a timeout, a connection that could not be made, else one that broke.
#[must_use]
pub fn fault_of(error: &(dyn Error + 'static)) -> Fault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<tokio::time::error::Elapsed>() {
            return Fault::FirstByteTimeout;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.kind() {
                io::ErrorKind::TimedOut => return Fault::ConnectTimeout,
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable => return Fault::Connect,
                _ => {}
            }
        }
        cause = error.source();
    }
    Fault::Closed
}

impl<S> Layer<S> for BreakerLayer {
    type Service = WithBreaker<S>;

    fn layer(&self, inner: S) -> WithBreaker<S> {
        WithBreaker { watch: Arc::clone(&self.watch), inner }
    }
}

/// A client with a breaker. It is always ready: the inner service is waited for within the time of the call, so that one
/// that connects while it gets ready is watched too.
#[derive(Clone)]
pub struct WithBreaker<S> {
    watch: Arc<Watch>,
    inner: S,
}

impl<S, Q, R> Service<Q> for WithBreaker<S>
where
    S: Service<Q, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    Q: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, CallError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let (watch, mut inner) = (Arc::clone(&self.watch), self.inner.clone());
        Box::pin(async move {
            let permit = watch.admit()?;
            let asked = tokio::time::timeout(watch.timeout, async {
                poll_fn(|context| inner.poll_ready(context)).await?;
                inner.call(request).await
            });
            // Dropped before it is over, the future takes the permit along, and nothing is learnt.
            let (verdict, result) = watch.judge(asked.await.map(|asked| asked.map_err(Into::into)));
            if let Some(permit) = permit {
                permit.report(watch.now_nanos(), verdict);
            }
            result
        })
    }
}

impl Watch {
    fn now_nanos(&self) -> u64 {
        self.clock.now().monotonic_nanos
    }

    fn admit(&self) -> Result<Option<OwnedPermit>, CallError> {
        let Some(breaker) = &self.breaker else { return Ok(None) };
        breaker.admit_owned(self.now_nanos()).map(Some).map_err(|rejected| CallError::Open {
            service: Arc::clone(&self.service),
            retry_after_nanos: rejected.retry_after_nanos,
        })
    }

    fn judge<R>(
        &self,
        asked: Result<Result<Response<R>, BoxError>, tokio::time::error::Elapsed>,
    ) -> (Verdict, Result<Response<R>, CallError>) {
        let service = Arc::clone(&self.service);
        match asked {
            Ok(Ok(response)) => (judge(response.status()), Ok(response)),
            Ok(Err(source)) => {
                let fault = (self.classify)(&*source);
                (Verdict::of_fault(fault), Err(CallError::Failed { service, fault, source }))
            }
            Err(_) => {
                let error = CallError::TooSlow { service, timeout: self.timeout };
                (Verdict::of_fault(Fault::FirstByteTimeout), Err(error))
            }
        }
    }
}
