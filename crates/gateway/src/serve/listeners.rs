//! Binding every address before anything is served.
//!
//! Each core has its own socket of each data address; telemetry and the admin API have one.
//!
//! Invariant: a start that fails here has served nobody.

use std::net::{SocketAddr, TcpListener as StdListener};

use super::StartError;
use crate::config::Config;
use crate::listen;

/// The addresses that were bound; differs from the config where it says port 0.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Where clients connect.
    pub data: Vec<SocketAddr>,
    /// Where telemetry is served.
    pub telemetry: SocketAddr,
    /// Where the admin API is, if somebody has a token.
    pub admin: Option<SocketAddr>,
}

/// All listeners, not yet served.
pub(super) struct Listeners {
    pub(super) per_core: Vec<Vec<StdListener>>,
    pub(super) telemetry: StdListener,
    pub(super) admin: Option<StdListener>,
    pub(super) bound: Bound,
}

impl Listeners {
    /// Binds all of them, or none.
    pub(super) fn bind(config: &Config, workers: usize) -> Result<Listeners, StartError> {
        let mut data = Vec::new();
        let mut per_core: Vec<Vec<StdListener>> = (0..workers).map(|_| Vec::new()).collect();
        for listen in &config.listen {
            let mut address = listen.address;
            let fail = |source| StartError::Listen { address: listen.address, source };
            // Sharing a port is for our own cores; somebody else's listener there is a mistake to be told.
            drop(StdListener::bind(address).map_err(fail)?);
            for listeners in &mut per_core {
                let listener = listen::bind(address).map_err(fail)?;
                // Port 0 means any: the other cores must take the one the first was given.
                address = listener.local_addr().map_err(fail)?;
                listeners.push(listener);
            }
            data.push(address);
        }
        let address = config.telemetry.address;
        let fail = |source| StartError::Listen { address, source };
        let telemetry = bind_one(address)?;
        let admin = config.admin.is_on().then(|| bind_one(config.admin.address)).transpose()?;
        let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
        let bound = Bound { data, telemetry: telemetry.local_addr().map_err(fail)?, admin: admin_address };
        Ok(Listeners { per_core, telemetry, admin, bound })
    }
}

fn bind_one(address: SocketAddr) -> Result<StdListener, StartError> {
    let fail = |source| StartError::Listen { address, source };
    let listener = StdListener::bind(address).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    Ok(listener)
}
