//! Messages as the three vendors' cameras write them, with only the members that matter.

use serde_json::json;

use super::day::GateSpec;

/// What a camera says when it saw a car and no plate.
pub(super) const UNREAD: &str = "_无_";

/// One message, ready to post.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// Writes what a camera tells of one read.
pub(super) fn write(gate: &GateSpec, plate: &str, second: i64, number: u64, replayed: bool) -> Message {
    match gate.format {
        "hikvision-isapi" => hikvision(gate, plate, second, number, replayed),
        "huaxia-mode5" => huaxia(gate, plate, second),
        _ => vzenith(gate, plate, second, number, replayed),
    }
}

fn vzenith(gate: &GateSpec, plate: &str, second: i64, number: u64, replayed: bool) -> Message {
    let message = json!({ "AlarmInfoPlate": {
        "channel": 0,
        "deviceName": "IVS",
        "serialno": format!("demo-{}-{}", gate.lot, gate.id),
        "result": { "PlateResult": {
            "license": plate,
            "plateid": number % 1_000_000,
            "confidence": 97,
            "direction": 4,
            "isoffline": u8::from(replayed),
            "triggerType": 8,
            "timeStamp": { "Timeval": { "sec": second, "usec": number % 1_000_000 } },
        } },
    } });
    Message {
        content_type: "application/json",
        body: message.to_string(),
    }
}

fn hikvision(gate: &GateSpec, plate: &str, second: i64, number: u64, replayed: bool) -> Message {
    let plate = if plate == UNREAD { "unknown" } else { plate };
    let time = jiff::Timestamp::from_second(second).unwrap_or_default();
    let time = time.display_with_offset(jiff::tz::offset(8));
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <EventNotificationAlert version=\"2.0\" xmlns=\"http://www.isapi.org/ver20/XMLSchema\">\
         <macAddress>00:00:5e:00:53:{}{}</macAddress><channelID>1</channelID><dateTime>{time}</dateTime>\
         <activePostCount>1</activePostCount><eventType>ANPR</eventType><eventState>active</eventState>\
         <ANPR><licensePlate>{plate}</licensePlate><direction>forward</direction></ANPR>\
         <UUID>{number:016x}</UUID><isDataRetransmission>{replayed}</isDataRetransmission>\
         </EventNotificationAlert>",
        gate.lot.len(),
        gate.id.len(),
    );
    let body = format!(
        "--demo\r\nContent-Disposition: form-data; name=\"anpr.xml\"; filename=\"anpr.xml\"\r\n\
         Content-Type: text/xml\r\nContent-Length: {}\r\n\r\n{xml}\r\n--demo--\r\n",
        xml.len()
    );
    Message {
        content_type: "multipart/form-data; boundary=demo",
        body,
    }
}

fn huaxia(gate: &GateSpec, plate: &str, second: i64) -> Message {
    let plate = if plate == UNREAD { "无牌车" } else { plate };
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("type", "online"),
            ("mode", "5"),
            ("plate_num", plate),
            ("plate_color", "蓝色"),
            ("confidence", "28"),
        ])
        .append_pair("start_time", &second.to_string())
        .extend_pairs([
            ("park_id", "1"),
            ("cam_id", &*format!("demo-{}-{}", gate.lot, gate.id)),
            ("cam_ip", "192.0.2.10"),
        ])
        .append_pair("vdc_type", &gate.state.as_str().to_lowercase())
        .extend_pairs([("picture", ""), ("closeup_pic", "")])
        .finish();
    Message {
        content_type: "application/x-www-form-urlencoded",
        body,
    }
}
