//! Talks to the service over HTTP as gates and the member system do.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use crate::cli::{Exit, Failure};

/// A client of the service. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Poster {
    http: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    gate_key: String,
    admin_key: String,
}

impl Poster {
    pub(super) fn new(address: SocketAddr, gate_key: String, admin_key: String) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            address,
            gate_key,
            admin_key,
        }
    }

    /// Posts a message of a gate; returns status and answer.
    pub(super) async fn gate(
        &self,
        lot: &str,
        gate: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        self.post(&format!("/v1/gates/{lot}/{gate}"), &self.gate_key, content_type, body)
            .await
    }

    /// Posts a batch of events in our own JSON; returns status and answer.
    pub(crate) async fn events(&self, body: Bytes) -> Result<(StatusCode, Bytes), Failure> {
        self.post("/v1/events", &self.gate_key, "application/json", body).await
    }

    pub(super) async fn bind(&self, openid: &str, plate: &str) -> Result<(), Failure> {
        let body = json!({ "circle": "demo-mall", "openid": openid, "plates": [plate] }).to_string();
        let (status, answer) = self
            .post("/v1/members/bind", &self.admin_key, "application/json", body.into())
            .await?;
        accepted(status, &answer)
    }

    async fn post(
        &self,
        path: &str,
        key: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let broken = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Unexpected, format!("the service did not answer on {path}")).cause(error.to_string())
        };
        let request = Request::post(format!("http://{}{path}", self.address))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(body))
            .map_err(|error| broken(&error))?;
        let response = self.http.request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let answer = response
            .into_body()
            .collect()
            .await
            .map_err(|error| broken(&error))?
            .to_bytes();
        Ok((status, answer))
    }
}

/// Whether a message was taken.
pub(crate) fn accepted(status: StatusCode, answer: &[u8]) -> Result<(), Failure> {
    if status == StatusCode::OK {
        return Ok(());
    }
    Err(
        Failure::new(Exit::Unexpected, format!("the service refused a message with {status}"))
            .cause(String::from_utf8_lossy(answer).into_owned()),
    )
}
