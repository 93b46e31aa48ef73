//! Takes an Authorization header value apart, members in any order.
//!
//! The checker's own reading, so that an implementation's layout is judged by someone else. Called by `kinds`.

use crate::implementation::Authorization;

/// Splits `SCHEME name="value",…`. A value may hold anything but a quote, also line feeds.
pub(crate) fn parse(header: &str) -> Result<Authorization, String> {
    let (scheme, list) = header.split_once(' ').ok_or("no blank after the scheme")?;
    let mut members: Vec<(&str, &str)> = Vec::new();
    let mut rest = list;
    loop {
        let (name, after) = rest
            .split_once("=\"")
            .ok_or_else(|| format!("no name=\"value\" at {rest:?}"))?;
        let (value, after) = after
            .split_once('"')
            .ok_or_else(|| format!("the value of {name:?} does not end"))?;
        if members.iter().any(|(other, _)| *other == name) {
            return Err(format!("two members {name:?}"));
        }
        members.push((name, value));
        if after.is_empty() {
            break;
        }
        rest = after
            .strip_prefix(',')
            .ok_or_else(|| format!("no comma after the value of {name:?}"))?;
    }
    let mut take = |name: &str| {
        let at = members
            .iter()
            .position(|(other, _)| *other == name)
            .ok_or_else(|| format!("no member {name}"))?;
        Ok::<_, String>(members.swap_remove(at).1.to_owned())
    };
    let parts = Authorization {
        scheme: scheme.to_owned(),
        mchid: take("mchid")?,
        nonce_str: take("nonce_str")?,
        timestamp: take("timestamp")?,
        serial_no: take("serial_no")?,
        signature: take("signature")?,
    };
    match members.first() {
        Some((name, _)) => Err(format!("unknown member {name:?}")),
        None => Ok(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn members_come_in_any_order_and_hold_line_feeds() {
        let parts = parse("S serial_no=\"A1\",signature=\"Sign:GET\n\n\",mchid=\"1\",timestamp=\"2\",nonce_str=\"n\"");

        let parts = parts.unwrap();
        assert_eq!(
            (parts.scheme.as_str(), parts.mchid.as_str(), parts.timestamp.as_str()),
            ("S", "1", "2")
        );
        assert_eq!((parts.serial_no.as_str(), parts.nonce_str.as_str()), ("A1", "n"));
        assert_eq!(parts.signature, "Sign:GET\n\n");
    }

    #[test]
    fn anything_else_is_refused() {
        let four = "mchid=\"1\",nonce_str=\"n\",timestamp=\"2\",serial_no=\"A\"";
        for bad in [
            four.to_owned(),
            format!("S {four}"),
            format!("S {four},signature=x"),
            format!("S {four},signature=\"x"),
            format!("S {four}, signature=\"x\""),
            format!("S {four};signature=\"x\""),
            format!("S {four},signature=\"x\","),
            format!("S {four},signature=\"x\",extra=\"y\""),
            format!("S {four},signature=\"x\",mchid=\"1\""),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
