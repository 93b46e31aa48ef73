//! Members and their plates. A wrong plate here would announce somebody else's car, so this face is strict.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::problem::Problem;
use super::{Web, intake};
use crate::domain::member::{Appid, MemberKey, Openid, bindable_plate, readable_plate};
use crate::domain::plate::Plate;
use crate::limits;
use crate::store::{MEMBERS_PER_PLATE, Member};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Binding {
    circle: String,
    appid: Option<Appid>,
    openid: Openid,
    #[serde(default)]
    plates: Vec<String>,
    /// The plates belong to this member alone from now on: a car that was sold.
    #[serde(default)]
    sole: bool,
}

type Body = Result<Bytes, BytesRejection>;

pub(super) async fn bind(State(web): State<Web>, body: Body) -> Response {
    let now = web.clock.now();
    let bound = async {
        let (member, plates, sole) = read(&web, &intake::body(body)?, bindable_plate)?;
        if plates.is_empty() {
            return Err(Problem::new(422, "no-plates", "name at least one plate to bind").field("plates"));
        }
        Ok(web.store.bind(member, plates, sole, now).await?)
    };
    answer(bound.await.and_then(|bound| {
        if bound.full > 0 {
            let most = format!(
                "{} of the plates have {MEMBERS_PER_PLATE} other members already",
                bound.full
            );
            return Err(Problem::new(422, "too-many-members", most).field("plates"));
        }
        Ok(json!({ "added": bound.added, "inside": bound.inside }))
    }))
}

pub(super) async fn unbind(State(web): State<Web>, body: Body) -> Response {
    let now = web.clock.now();
    let unbound = async {
        let (member, plates, _) = read(&web, &intake::body(body)?, readable_plate)?;
        Ok(web.store.unbind(member, plates, now).await?)
    };
    answer(
        unbound
            .await
            .map(|unbound| json!({ "removed": unbound.removed, "withdrawn": unbound.withdrawn })),
    )
}

fn answer(result: Result<serde_json::Value, Problem>) -> Response {
    match result {
        Ok(body) => Json(body).into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn read(
    web: &Web,
    body: &[u8],
    plate: impl Fn(&str) -> Result<Plate, String>,
) -> Result<(MemberKey, Vec<Plate>, bool), Problem> {
    let mut body = serde_json::Deserializer::from_slice(body);
    let binding: Binding = serde_path_to_error::deserialize(&mut body).map_err(|error| {
        // The place, never the value: that may be a plate or an openid.
        let place = error.path().to_string();
        let (line, column) = (error.inner().line(), error.inner().column());
        let detail = format!(
            "line {line} column {column} does not fit; a binding has circle, openid, plates and optionally appid and sole"
        );
        let is_name = place.len() <= 20 && place.bytes().all(|byte| byte.is_ascii_lowercase() || b"[]0123456789".contains(&byte));
        Problem::new(400, "malformed", detail).field(if is_name { place } else { "body".to_owned() })
    })?;
    let Some(appid) = web.site.circles.get(&binding.circle) else {
        let known = format!("there is no circle \"{}\" in the settings", binding.circle);
        return Err(Problem::new(422, "unknown-circle", known).field("circle"));
    };
    if binding.plates.len() > limits::PLATES_PER_MEMBER {
        let most = format!("at most {} plates in one request", limits::PLATES_PER_MEMBER);
        return Err(Problem::new(422, "too-many-plates", most).field("plates"));
    }
    let plates = binding.plates.iter().enumerate().map(|(index, raw)| {
        plate(raw).map_err(|why| Problem::new(422, "not-a-plate", why).field(format!("plates[{index}]")))
    });
    let plates = plates.collect::<Result<_, _>>()?;
    let appid = binding.appid.unwrap_or_else(|| appid.clone());
    let member = MemberKey {
        circle: binding.circle,
        appid,
        openid: binding.openid,
    };
    Ok((member, plates, binding.sole))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    circle: Option<String>,
    #[serde(default)]
    after: i64,
    limit: Option<u32>,
    // The API key may come in the query, too.
    #[serde(default, rename = "key")]
    _key: Option<String>,
}

pub(super) async fn list(
    State(web): State<Web>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Query(page) = match page {
        Ok(page) => page,
        Err(error) => {
            return Problem::new(400, "malformed", error.body_text())
                .field("query")
                .into_response();
        }
    };
    let limit = page
        .limit
        .unwrap_or(limits::MEMBERS_PER_PAGE)
        .clamp(1, limits::MEMBERS_PER_PAGE);
    match web.store.members(page.circle, page.after, limit).await {
        Ok((members, next)) => {
            let members: Vec<_> = members.iter().map(masked).collect();
            Json(json!({ "members": members, "next": next })).into_response()
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// A member for people.
fn masked(member: &Member) -> serde_json::Value {
    json!({
        "circle": member.key.circle,
        "appid": member.key.appid,
        "openid": member.key.openid.masked(),
        "plates": member.plates.iter().map(Plate::masked).collect::<Vec<_>>(),
    })
}
