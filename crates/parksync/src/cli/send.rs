//! `parksync send`: one state, directly, past the outbox. For trying out credentials.

use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::serve::start_failure;
use super::{Exit, Failure};
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::courier::{Courier, WechatCourier};
use crate::domain::delivery::{Delivery, Outcome};
use crate::domain::gate::Direction;
use crate::domain::member::{Appid, MemberKey, Openid};
use crate::domain::plate;
use crate::service;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: parksync send --openid oUpF8uMuAJOM2pxb1Q --plate 粤B888888 --state in\n\
This goes straight to WeChat Pay: it is not written into the outbox, not repeated and not kept in order with it."
)]
pub(super) struct SendArgs {
    /// The circle (商圈) of the settings; may be left out when there is only one
    #[arg(long)]
    circle: Option<String>,
    /// The member
    #[arg(long)]
    openid: String,
    /// The appid of the openid; the circle's by default
    #[arg(long)]
    appid: Option<Appid>,
    /// The plate
    #[arg(long)]
    plate: String,
    /// in or out
    #[arg(long, value_parser = super::gate::parse_direction)]
    state: Direction,
    /// When, as 2024-07-04T15:30:00+08:00; now by default
    #[arg(long)]
    time: Option<Timestamp>,
}

pub(super) async fn run(config: &Config, arguments: &SendArgs) -> Result<Exit, Failure> {
    let circle = match &arguments.circle {
        Some(id) => config.circle.iter().find(|circle| circle.id == *id),
        None => config.circle.first().filter(|_| config.circle.len() == 1),
    };
    let Some(circle) = circle else {
        let known: Vec<_> = config.circle.iter().map(|circle| &*circle.id).collect();
        return Err(
            Failure::new(Exit::Usage, "say which circle").hint(format!("--circle with one of: {}", known.join(", ")))
        );
    };
    let openid = Openid::parse(&arguments.openid).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let checked = plate::check(&arguments.plate);
    let Some(plate) = checked.plate.filter(plate::Plate::wechat_can_carry) else {
        return Err(Failure::new(Exit::Usage, "WeChat Pay cannot carry this plate").cause(checked.why));
    };
    let now = Clock::system().now();
    let appid = arguments.appid.clone().unwrap_or_else(|| circle.appid.clone());
    let delivery = Delivery {
        id: 0,
        member: MemberKey {
            circle: circle.id.clone(),
            appid,
            openid,
        },
        plate,
        state: arguments.state,
        at: arguments.time.unwrap_or(now),
        enqueued_at: now,
        tries: 0,
    };
    let courier = WechatCourier::new(service::roads(config).map_err(start_failure)?);
    match courier.deliver(&delivery).await {
        Outcome::Accepted { request_id } => {
            let told = json!({ "delivered": true, "request_id": request_id });
            writeln!(std::io::stdout(), "{told}")?;
            Ok(Exit::Done)
        }
        Outcome::Refused {
            status,
            code,
            message,
            request_id,
            rate_limited,
            ..
        } => {
            let later = rate_limited || status >= 500;
            let exit = if later { Exit::Later } else { Exit::Refused };
            Err(
                Failure::new(exit, format!("WeChat Pay refused: {status} {code}: {message}"))
                    .cause(format!("Request-ID {request_id}"))
                    .hint(hint(status, later)),
            )
        }
        Outcome::Unknown { why } => Err(Failure::new(Exit::Later, "nobody can say whether WeChat Pay has it")
            .cause(why)
            .hint("send the same again: telling a state twice does no harm")),
        // A try is never older than itself, and no lane is claimed for it.
        Outcome::Expired | Outcome::Unclaimed { .. } => Ok(Exit::Later),
        Outcome::NotSent { why } => Err(Failure::new(Exit::Later, "WeChat Pay was not reached").cause(why)),
        Outcome::Unbuildable { why } => Err(Failure::new(Exit::Usage, "this message cannot be sent").cause(why)),
    }
}

fn hint(status: u16, later: bool) -> &'static str {
    match status {
        _ if later => "try again in a while",
        401 => "check mchid, serial_no and private_key_file of the merchant, and the clock of this machine",
        403 => "check brandid, appid and sub_mchid of the circle: they must belong together at WeChat Pay",
        _ => "the message names the field that is wrong",
    }
}
