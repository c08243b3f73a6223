//! The layers: one guard, or a whole path, around a service.
//!
//! Both make a [`Guarded`] service, which never fails: every failure is an answer in the house's error format.
//!
//! Invariant: a path can only be wrapped around a service when everything its guards need is given; that is checked when
//! the layer is made, not when the first request comes.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use portcullis_guards::config::{Mistake, PathConfig};
use portcullis_guards::guard::Guard;
use portcullis_guards::path::Path;
use portcullis_guards::request_path::{Ground, path_to, request_path};
use tower_layer::Layer;
use tower_service::Service;

use crate::BoxError;
use crate::answer::Answer;
use crate::request_body::RequestBody;
use crate::standing::Standing;
use crate::visit::{House, receive};

/// Everything that is wrong with a config, all at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the config of the guards has {} mistake(s)", self.0.len())?;
        for Mistake { path, message } in &self.0 {
            match path.as_str() {
                "" => write!(formatter, "; {message}")?,
                path => write!(formatter, "; {path}: {message}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// One guard around a service, with those above it that give what it needs, and nobody else.
///
/// For example `GuardLayer::new(rate_limit::build, &config, &standing)`, or a guard of your own:
/// `GuardLayer::new(|_, _| Ok(MyGuard), &config, &standing)`.
#[derive(Clone)]
pub struct GuardLayer {
    house: Arc<House>,
}

impl GuardLayer {
    /// Builds the guard, and what it needs, from `config`.
    ///
    /// # Errors
    /// Every mistake in the config of the guards that are used.
    pub fn new<G: Guard + 'static>(
        build: impl FnOnce(&PathConfig, &Ground) -> Result<G, Vec<Mistake>>,
        config: &PathConfig,
        standing: &Standing,
    ) -> Result<GuardLayer, Mistakes> {
        let path = build(config, standing.ground())
            .and_then(|guard| path_to(guard, config, standing.ground()))
            .map_err(Mistakes)?;
        Ok(GuardLayer { house: house(path, standing) })
    }

    /// The names of the guards, outside first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.house.path.names()
    }
}

/// A whole path around a service.
#[derive(Clone)]
pub struct PathLayer {
    house: Arc<House>,
}

impl PathLayer {
    /// The gateway's own list, from request id to breaker, in its fixed order.
    ///
    /// # Errors
    /// Every mistake in `config`, all at once.
    pub fn new(config: &PathConfig, standing: &Standing) -> Result<PathLayer, Mistakes> {
        let path = request_path(config, standing.ground()).map_err(Mistakes)?;
        Ok(PathLayer::of(path, standing))
    }

    /// A list of your own. That it can be run was checked when it was built ([`Path::builder`]).
    #[must_use]
    pub fn of(path: Path, standing: &Standing) -> PathLayer {
        PathLayer { house: house(path, standing) }
    }

    /// The names of the guards, outside first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.house.path.names()
    }
}

fn house(path: Path, standing: &Standing) -> Arc<House> {
    path.begins();
    Arc::new(House { path, standing: standing.clone() })
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { house: Arc::clone(&self.house), inner }
    }
}

impl<S> Layer<S> for PathLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { house: Arc::clone(&self.house), inner }
    }
}

/// A service behind guards. It is always ready: the inner service is waited for after the guards, within the deadline,
/// so that a refusal costs it nothing and does not wait for it.
#[derive(Clone)]
pub struct Guarded<S> {
    house: Arc<House>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Answer<R>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer<R>>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (house, inner) = (Arc::clone(&self.house), self.inner.clone());
        Box::pin(async move { Ok(receive(house, inner, request).await) })
    }
}
