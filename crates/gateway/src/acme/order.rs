//! One order of a certificate: account, names, proof, certificate (RFC 8555, section 7.4; RFC 8737).
//!
//! Invariant: what was put up for the authority to see is taken down again, however the order ends.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;

use super::{Challenges, Issued, replace};
use crate::config::listen::AcmeConfig;

/// Places the order and waits for the certificate.
pub(super) async fn place(acme: &AcmeConfig, folder: &Path, challenges: &Arc<Challenges>) -> anyhow::Result<Issued> {
    let account = account(acme, folder).await?;
    let names: Vec<Identifier> = acme.names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await.context("placing the order")?;
    let _shown = Shown { names: &acme.names, challenges };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.context("reading an authorization")?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            status => bail!("an authorization is {status:?}"),
        }
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            bail!("the authority does not offer TLS-ALPN-01");
        };
        let name = challenge.identifier().to_string();
        let proof = proof(&name, challenge.key_authorization().digest().as_ref())?;
        challenges.add(&name, proof);
        challenge.set_ready().await.with_context(|| format!("asking to be checked for {name}"))?;
    }
    let status = order.poll_ready(&RetryPolicy::default()).await.context("waiting for the check")?;
    if status != OrderStatus::Ready {
        bail!("the order is {status:?}: the authority must reach these names on port 443 of this gateway");
    }
    let key = order.finalize().await.context("asking for the certificate")?;
    let chain = order.poll_certificate(&RetryPolicy::default()).await.context("fetching the certificate")?;
    Ok(Issued { chain, key })
}

/// The account of this folder; a new one the first time.
async fn account(acme: &AcmeConfig, folder: &Path) -> anyhow::Result<Account> {
    let builder = match &acme.ca {
        Some(ca) => Account::builder_with_root(folder.join(ca)),
        None => Account::builder(),
    };
    let builder = builder.context("setting up the client")?;
    let file = folder.join(&acme.folder).join("account.json");
    if let Ok(text) = std::fs::read_to_string(&file) {
        let credentials: AccountCredentials =
            serde_json::from_str(&text).with_context(|| format!("{} is not an account", file.display()))?;
        return builder.from_credentials(credentials).await.context("opening the account");
    }
    let contact: Vec<&str> = acme.contact.iter().map(String::as_str).collect();
    let wanted =
        NewAccount { contact: &contact, terms_of_service_agreed: acme.agree_to_terms, only_return_existing: false };
    let (account, credentials) =
        builder.create(&wanted, acme.directory().to_owned(), None).await.context("making an account")?;
    replace(&file, &serde_json::to_string(&credentials)?)?;
    Ok(account)
}

/// The certificate by which the authority knows the gateway: for the name, signed by itself, with the digest of the key
/// authorization in it (RFC 8737, section 3).
fn proof(name: &str, digest: &[u8]) -> anyhow::Result<Arc<CertifiedKey>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow::anyhow!(error))?;
    // Not checked against each other: the extension is critical, and only authorities know it.
    let key = aws_lc_rs::sign::any_supported_type(&private)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// Takes down what was put up.
struct Shown<'a> {
    names: &'a [String],
    challenges: &'a Challenges,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        for name in self.names {
            self.challenges.remove(name);
        }
    }
}
