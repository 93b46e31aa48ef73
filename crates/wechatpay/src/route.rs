//! Naming an endpoint. Every way of writing one ends in a [`Route`].
//!
//! Lives here: path templates, the values bound to them, the query, and percent-encoding, done once. Does not live here:
//! methods, bodies and headers (`request`). Called by `call`, `chain`, `client` and the typed `api`.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// An endpoint: a path template, the values bound to its `{names}`, and a query.
///
/// Nothing is checked while it is put together; the first mistake comes out of [`Route::resolve`].
///
/// ```
/// use wechatpay::Route;
///
/// let route = Route::new("v3/businesscircle/user-authorizations/{openid}")
///     .bind("openid", "oWmnN4")
///     .query("appid", "wx931386123456789e");
/// assert_eq!(route.resolve()?, "/v3/businesscircle/user-authorizations/oWmnN4?appid=wx931386123456789e");
/// # Ok::<(), wechatpay::RouteError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Route {
    template: Cow<'static, str>,
    bound: Vec<(Cow<'static, str>, String)>,
    query: Vec<(String, String)>,
    mistake: Option<RouteError>,
}

impl Route {
    /// Names an endpoint by its path, with or without the leading slash.
    ///
    /// `{name}` is a variable for [`Route::bind`]. A `?` starts a query that is already encoded.
    pub fn new(path: impl Into<Cow<'static, str>>) -> Route {
        Route {
            template: path.into(),
            bound: Vec::new(),
            query: Vec::new(),
            mistake: None,
        }
    }

    /// Gives `{name}` its value, which is percent-encoded as one segment.
    pub fn bind(mut self, name: impl Into<Cow<'static, str>>, value: impl Display) -> Route {
        self.bound.push((name.into(), value.to_string()));
        self
    }

    /// Adds one segment to the path. Values that say who somebody is belong in [`Route::bind`], which keeps them out
    /// of error texts.
    pub fn seg(mut self, segment: &str) -> Route {
        if segment.is_empty() || segment.contains(['/', '{', '}', '?', '#', '%']) {
            self.mistake.get_or_insert(RouteError::Segment(segment.to_owned()));
            return self;
        }
        let template = self.template.to_mut();
        template.push('/');
        template.push_str(segment);
        self
    }

    /// Adds a part of a template that this crate wrote.
    pub(crate) fn join(mut self, part: &'static str) -> Route {
        let template = self.template.to_mut();
        template.push('/');
        template.push_str(part);
        self
    }

    /// The route behind `client["…"]`; `None` when its table is full.
    pub(crate) fn indexed(path: Option<&'static str>) -> Route {
        let mut route = Route::new(path.unwrap_or("client[…]"));
        route.mistake = path.is_none().then_some(RouteError::TooManyIndexed);
        route
    }

    /// Adds one query parameter. Parameters are sent, and signed, in the order of the calls.
    pub fn query(mut self, name: impl Into<String>, value: impl Display) -> Route {
        self.query.push((name.into(), value.to_string()));
        self
    }

    /// Adds a query parameter that may be absent.
    pub(crate) fn query_if(self, name: &str, value: Option<impl Display>) -> Route {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Takes path and query of an address that WeChat Pay gave, such as a `download_url`. Its host is left out: requests
    /// go to the client's own domain, and only there.
    pub fn from_url(url: &str) -> Route {
        let path = match url.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => url,
        };
        Route::new(path.to_owned())
    }

    /// The path template without values and query, for people: it never holds personal data that was bound.
    pub fn template(&self) -> &str {
        self.template.split(['?', '#']).next().unwrap_or_default()
    }

    /// Path and query exactly as they are signed and sent.
    ///
    /// # Errors
    /// The first mistake in the template or in the values bound to it.
    pub fn resolve(&self) -> Result<String, RouteError> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        if self.template.contains("://") {
            return Err(RouteError::Absolute);
        }
        if self.template.contains('#') {
            return Err(RouteError::Fragment);
        }
        let (path, query) = match self.template.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*self.template, None),
        };
        let mut out = String::with_capacity(self.template.len() + 64);
        self.write_path(path.strip_prefix('/').unwrap_or(path), &mut out)?;
        self.write_query(query.filter(|query| !query.is_empty()), &mut out);
        Ok(out)
    }

    fn write_path(&self, path: &str, out: &mut String) -> Result<(), RouteError> {
        let mut used = vec![false; self.bound.len()];
        for segment in path.split('/') {
            let start = out.len() + 1;
            out.push('/');
            self.write_segment(segment, out, &mut used)?;
            // An empty or dotted segment would be folded away by the first proxy that normalises paths.
            if matches!(&out[start..], "" | "." | "..") {
                return Err(RouteError::EmptySegment);
            }
        }
        match used.iter().position(|used| !used) {
            Some(unused) => Err(RouteError::NoSuchVariable(self.bound[unused].0.to_string())),
            None => Ok(()),
        }
    }

    fn write_segment(&self, mut rest: &str, out: &mut String, used: &mut [bool]) -> Result<(), RouteError> {
        while let Some((before, after)) = rest.split_once('{') {
            write_literal(before, PATH, out);
            let (name, after) = after.split_once('}').ok_or(RouteError::Brace)?;
            let Some(found) = self.bound.iter().rposition(|(bound, _)| bound == name) else {
                return Err(RouteError::Unbound(name.to_owned()));
            };
            for (used, (bound, _)) in used.iter_mut().zip(&self.bound) {
                *used |= bound == name;
            }
            let value = &self.bound[found].1;
            if value.is_empty() {
                return Err(RouteError::EmptyValue(name.to_owned()));
            }
            write_value(value, out);
            rest = after;
        }
        if rest.contains('}') {
            return Err(RouteError::Brace);
        }
        write_literal(rest, PATH, out);
        Ok(())
    }

    fn write_query(&self, written: Option<&str>, out: &mut String) {
        let mut separator = '?';
        if let Some(query) = written {
            out.push(separator);
            write_literal(query, QUERY, out);
            separator = '&';
        }
        for (name, value) in &self.query {
            out.push(separator);
            write_value(name, out);
            out.push('=');
            write_value(value, out);
            separator = '&';
        }
    }
}

impl fmt::Debug for Route {
    /// Shows the template and the names of what was bound, never the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound: Vec<&str> = self.bound.iter().map(|(name, _)| &**name).collect();
        let query: Vec<&str> = self.query.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Route")
            .field("template", &self.template())
            .field("bound", &bound)
            .field("query", &query)
            .finish_non_exhaustive()
    }
}

impl From<&'static str> for Route {
    fn from(path: &'static str) -> Route {
        Route::new(path)
    }
}

impl From<String> for Route {
    fn from(path: String) -> Route {
        Route::new(path)
    }
}

/// A path that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The path has a scheme and a host.
    #[error("the path must not name a host; set it with base_url")]
    Absolute,
    /// The path has a `#` part.
    #[error("the path must not have a fragment (#)")]
    Fragment,
    /// `{` without `}`, or the other way round.
    #[error("the path has an unmatched brace")]
    Brace,
    /// A segment is empty, `.` or `..`.
    #[error("the path has an empty or dotted segment")]
    EmptySegment,
    /// `seg` takes one plain segment.
    #[error("{0:?} is not one plain path segment")]
    Segment(String),
    /// A variable has no value.
    #[error("{{{0}}} is not bound")]
    Unbound(String),
    /// A variable was bound to nothing.
    #[error("{{{0}}} is bound to an empty value")]
    EmptyValue(String),
    /// Too many different paths were used as an index.
    #[error("more than 1024 different paths were used as client[…]; use client.chain(…)")]
    TooManyIndexed,
    /// A value was bound to a variable that the path does not have.
    #[error("the path has no {{{0}}} to bind")]
    NoSuchVariable(String),
}

/// What stays as it is inside a bound value: RFC 3986 "unreserved".
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What stays as it is in the written part of a path: RFC 3986 "pchar".
const PATH: &AsciiSet = &VALUE
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');
/// What stays as it is in a written query.
const QUERY: &AsciiSet = &PATH.remove(b'/').remove(b'?');

fn write_value(value: &str, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{}", utf8_percent_encode(value, VALUE));
}

/// Encodes what may not stand in a URL, but keeps `%XX` that the author already wrote.
fn write_literal(literal: &str, keep: &'static AsciiSet, out: &mut String) {
    let mut rest = literal;
    while let Some(at) = rest.find('%') {
        let (before, tail) = rest.split_at(at);
        let encoded = tail.len() >= 3 && tail.as_bytes()[1..3].iter().all(u8::is_ascii_hexdigit);
        let (percent, after) = if encoded { tail.split_at(3) } else { ("%25", &tail[1..]) };
        let _ = write!(out, "{}{percent}", utf8_percent_encode(before, keep));
        rest = after;
    }
    let _ = write!(out, "{}", utf8_percent_encode(rest, keep));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_is_the_same_path() {
        for path in ["v3/businesscircle/parkings", "/v3/businesscircle/parkings"] {
            assert_eq!(Route::new(path).resolve().unwrap(), "/v3/businesscircle/parkings");
        }
        let chained = Route::new("v3").seg("businesscircle").seg("parkings");
        assert_eq!(chained.resolve().unwrap(), "/v3/businesscircle/parkings");
    }

    #[test]
    fn values_are_encoded_once_and_never_read_again() {
        let table = [
            ("o_A-1.~", "o_A-1.~"),
            ("a/b", "a%2Fb"),
            ("100%", "100%25"),
            ("%2F", "%252F"),
            ("{openid}", "%7Bopenid%7D"),
            ("粤B", "%E7%B2%A4B"),
            ("a b?c#d", "a%20b%3Fc%23d"),
        ];

        for (value, written) in table {
            let route = Route::new("v3/users/{openid}/points").bind("openid", value);
            assert_eq!(route.resolve().unwrap(), format!("/v3/users/{written}/points"));
        }
    }

    #[test]
    fn written_text_is_encoded_only_where_it_must_be() {
        let route = Route::new("v3/mer:chant/ü%41/50%?sp_mchid=1&x={\"a\":[1]}");

        assert_eq!(
            route.resolve().unwrap(),
            "/v3/mer:chant/%C3%BC%41/50%25?sp_mchid=1&x=%7B%22a%22:%5B1%5D%7D"
        );
    }

    #[test]
    fn the_query_keeps_the_order_of_the_calls() {
        let route = Route::new("v3/x?a=1").query("c", "2 3").query("b", 4);

        assert_eq!(route.resolve().unwrap(), "/v3/x?a=1&c=2%203&b=4");
    }

    #[test]
    fn the_last_value_of_a_name_wins_and_fills_every_place() {
        let route = Route::new("v3/{id}/x-{id}").bind("id", "old").bind("id", "new");

        assert_eq!(route.resolve().unwrap(), "/v3/new/x-new");
    }

    #[test]
    fn an_address_gives_its_path_and_query_only() {
        let route = Route::from_url("https://api.mch.weixin.qq.com/v3/billdownload/file?token=a%2Fb");

        assert_eq!(route.resolve().unwrap(), "/v3/billdownload/file?token=a%2Fb");
        assert_eq!(Route::from_url("https://host").resolve(), Err(RouteError::EmptySegment));
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            (Route::new("https://api.mch.weixin.qq.com/v3/x"), RouteError::Absolute),
            (Route::new("v3/x#y"), RouteError::Fragment),
            (Route::new("v3/{id"), RouteError::Brace),
            (Route::new("v3/id}"), RouteError::Brace),
            (Route::new("v3//x"), RouteError::EmptySegment),
            (Route::new("v3/x/"), RouteError::EmptySegment),
            (Route::new(""), RouteError::EmptySegment),
            (Route::new("v3/../x"), RouteError::EmptySegment),
            (Route::new("v3/{id}").bind("id", ".."), RouteError::EmptySegment),
            (Route::new("v3").seg("a/b"), RouteError::Segment("a/b".into())),
            (Route::new("v3/{id}"), RouteError::Unbound("id".into())),
            (
                Route::new("v3/{id}").bind("id", ""),
                RouteError::EmptyValue("id".into()),
            ),
            (
                Route::new("v3/x").bind("id", "1"),
                RouteError::NoSuchVariable("id".into()),
            ),
        ];

        for (route, mistake) in table {
            assert_eq!(route.resolve(), Err(mistake), "{route:?}");
        }
    }

    #[test]
    fn values_stay_out_of_debug_and_template() {
        let route = Route::new("v3/users/{openid}?appid=wx1")
            .bind("openid", "oUpF8u")
            .query("plate", "粤B888888");

        assert_eq!(route.template(), "v3/users/{openid}");
        let shown = format!("{route:?}");
        assert!(
            !shown.contains("oUpF8u") && !shown.contains("粤B888888") && !shown.contains("wx1"),
            "{shown}"
        );
    }
}
