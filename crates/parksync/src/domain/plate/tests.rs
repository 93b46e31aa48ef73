//! The plate tables of the reference, the rules one by one, and what must hold for any text at all.

use proptest::prelude::*;

use super::*;

const PLATES: &str = include_str!("../../../tests/data/plates-dev.txt");
const DIRTY: &str = include_str!("../../../tests/data/plates-dirty-dev.jsonl");

#[track_caller]
fn expect(raw: &str, verdict: Verdict, plate: Option<&str>) {
    let checked = check(raw);
    let found = (checked.verdict, checked.plate.as_ref().map(Plate::expose));
    assert_eq!(found, (verdict, plate), "{raw:?} is {}", checked.why);
}

fn word<T: Serialize>(value: T) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn every_real_plate_is_taken_with_its_kind() {
    let mut lines = 0;
    for line in PLATES.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [plate, kind, wechat, _source] = fields.as_slice() else {
            panic!("four fields: {line}")
        };

        let checked = check(plate);

        let verdict = if *wechat == "yes" {
            Verdict::Ok
        } else {
            Verdict::OkNosync
        };
        expect(plate, verdict, Some(plate));
        assert_eq!(checked.kind.map(word).as_deref(), Some(*kind), "{plate}");
        assert_eq!(checked.plate.unwrap().wechat_can_carry(), *wechat == "yes", "{plate}");
        lines += 1;
    }
    assert_eq!(lines, 664);
}

#[test]
fn every_dirty_reading_gets_its_verdict_and_plate() {
    let mut lines = 0;
    for line in DIRTY.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let checked = check(line["raw"].as_str().unwrap());

        assert_eq!(word(checked.verdict), line["verdict"].as_str().unwrap(), "{line}");
        assert_eq!(
            checked.plate.as_ref().map(Plate::expose),
            line["plate"].as_str(),
            "{line}"
        );
        lines += 1;
    }
    assert_eq!(lines, DIRTY.lines().count());
    assert!(lines > 100);
}

#[test]
fn people_see_a_plate_masked() {
    let plate = Plate::from_stored("粤B12345".to_owned());

    assert_eq!(plate.to_string(), "粤B****5");
    assert_eq!(format!("{plate:?}"), "Plate(粤B****5)");
    assert_eq!(Plate::from_stored("粤B123".to_owned()).masked(), "粤B****3");
    assert_eq!(Plate::from_stored("粤B12".to_owned()).masked(), "****");
}

#[test]
fn wechat_carries_what_its_rule_says() {
    let carries = |text: &str| Plate::from_stored(text.to_owned()).wechat_can_carry();

    assert!(carries("粤B888888"));
    assert!(carries("京X1234应急"));
    assert!(carries(&format!("粤{}", "A".repeat(31))));
    for no in [
        "",
        "粤",
        "使123456",
        "粤b12345",
        "粤B 12345",
        "台A12345",
        &format!("粤{}", "A".repeat(32)),
    ] {
        assert!(!carries(no), "{no}");
    }
}

#[test]
fn separators_widths_and_invisible_characters_do_not_matter() {
    for raw in [
        "粤B·12345",
        "粤B•12345",
        "粤B・12345",
        "粤B･12345",
        "粤B‧12345",
        "粤B⋅12345",
        "粤B∙12345",
        "粤B●12345",
        "粤B.12345",
        "粤B．12345",
        "粤B。12345",
        "粤B｡12345",
        "粤B-12345",
        "粤B–12345",
        "粤B—12345",
        "粤B−12345",
        "粤B－12345",
        "粤B_12345",
        "粤 B 1 2 3 4 5",
        "粤B\u{a0}12345",
        "粤B\u{3000}12345",
        "\u{2009}粤B12345\u{202f}",
        "\t粤B12345\r\n",
        "粤B\r\n12345",
        "\"粤B12345\"",
        "“粤B12345”",
        "「粤B12345」",
        "'粤B12345'",
        "\u{2}粤B12345\u{3}",
        "粤B12345\0\0\0",
        "粤B12345\0张三",
        "\u{feff}粤B12345",
        "粤\u{200b}B\u{200d}12345",
        "粤B\u{ad}12345",
        "\u{202a}粤B12345\u{202c}",
        "粤B12345\u{fe0f}",
        "粤Ｂ１２３４５",
        "粵ｂ１２３４５",
        "粤b12345",
    ] {
        expect(raw, Verdict::Ok, Some("粤B12345"));
    }
}

#[test]
fn traditional_characters_become_simplified_ones() {
    let heads = "滬遼蘇閩贛魯粵瓊貴雲陝寧晉"
        .chars()
        .zip("沪辽苏闽赣鲁粤琼贵云陕宁晋".chars());
    for (from, to) in heads {
        expect(&format!("{from}A12345"), Verdict::Ok, Some(&format!("{to}A12345")));
    }
    expect("京A1234學", Verdict::Ok, Some("京A1234学"));
    expect("京A1234掛", Verdict::Ok, Some("京A1234挂"));
    expect("京A1234領", Verdict::Ok, Some("京A1234领"));
    expect("京X1234應急", Verdict::Ok, Some("京X1234应急"));
}

#[test]
fn colour_words_and_codes_are_stripped_only_where_a_plate_is_left() {
    for raw in [
        "蓝粤B12345",
        "蓝色粤B12345",
        "蓝牌粤B12345",
        "黄色 粤B12345",
        "白牌粤B12345",
        "黑粤B12345",
        "黄绿粤B12345",
        "渐变绿色粤B12345",
        "新能源绿牌粤B12345",
        "蓝白粤B12345",
        "粤B12345蓝",
        "粤B12345蓝色",
        "粤B12345 黄牌",
        "粤B12345(蓝)",
        "（蓝）粤B12345",
        "粤B12345,blue",
        "粤B12345,Yellow",
        "粤B12345，蓝色",
        "粤B12345_1",
        "粤B12345_0",
        "粤B12345_11",
        "粤B12345,1",
        "BLUE 粤B12345",
        "粤B12345/蓝",
        "粤B12345|蓝",
        "蓝|粤B12345",
        "藍粤B12345",
    ] {
        expect(raw, Verdict::Ok, Some("粤B12345"));
    }
    expect("黑A12345", Verdict::Ok, Some("黑A12345"));
    expect("黑黑A12345", Verdict::Ok, Some("黑A12345"));
    expect("新A12345", Verdict::Ok, Some("新A12345"));
    expect("新能源新AD12345", Verdict::Ok, Some("新AD12345"));
    expect("粤BD12345_4", Verdict::Ok, Some("粤BD12345"));
    expect("粤B1234_5", Verdict::Ok, Some("粤B12345"));
    expect("黄WJ京0001警", Verdict::OkNosync, Some("WJ京0001警"));
    expect("蓝粤B123456", Verdict::Review, Some("粤B123456"));
    expect("蓝A12345", Verdict::Reject, None);
}

#[test]
fn every_way_to_say_no_plate_is_heard() {
    for raw in [
        "",
        "   ",
        "\u{3000}",
        "\0粤B12345",
        "-",
        "--",
        "——",
        "_",
        "...",
        "?",
        "???????",
        "******",
        "＊＊＊",
        "0",
        "0000000",
        "xxxxxxx",
        "无",
        "_无_",
        "無",
        "无牌",
        "无牌车",
        "無牌車",
        "无车牌",
        "无号牌",
        "无法识别",
        "无Y88YY55",
        "无粤B12345",
        "临A12345",
        "临时车",
        "臨時牌",
        "未识别",
        "未识别001",
        "车牌未识别",
        "车牌识别失败",
        "识别失败",
        "没有车牌",
        "未知",
        "未检测到车牌",
        "未上牌",
        "空",
        "空车牌",
        "拒识",
        "车牌遮挡",
        "unknown",
        "UNKNOWN",
        "Unknown_12",
        "unknow",
        "noplate",
        "No Plate",
        "NO_PLATE",
        "no-plate-7",
        "null",
        "(null)",
        "<null>",
        "NULL",
        "nil",
        "none",
        "None",
        "NaN",
        "N/A",
        "n.a.",
        "undefined",
        "unrecognised",
        "UNRECOGNIZED",
        "Not recognized",
        "not detected",
        "unlicensed",
        "no license plate",
        "no read",
        "EA47829",
        "7FEDR54",
        "ＮＵＬＬ",
        "无|无",
        "无,无",
        ",",
        "{}",
        "[]",
        "\"\"",
    ] {
        expect(raw, Verdict::NoPlate, None);
    }
}

#[test]
fn a_misread_letter_in_the_serial_is_repaired_and_nothing_else() {
    expect("粤BO1234", Verdict::Repaired, Some("粤B01234"));
    expect("粤bo1234", Verdict::Repaired, Some("粤B01234"));
    expect("粤BDO1234I", Verdict::Reject, None);
    expect("粤BDO123I", Verdict::Repaired, Some("粤BD01231"));
    expect("京AI234警", Verdict::Repaired, Some("京A1234警"));
    expect("粤ZJO68澳", Verdict::Repaired, Some("粤ZJ068澳"));
    expect("蓝粤BO1234", Verdict::Repaired, Some("粤B01234"));
    expect("粤BDSZL5", Verdict::Ok, Some("粤BDSZL5"));
    expect("粤B8S2Z1", Verdict::Ok, Some("粤B8S2Z1"));
    // The authority letter is no digit, and 京ONLYOU is odd twice over.
    expect("京I12345", Verdict::Reject, None);
    expect("京ONLYOU", Verdict::Reject, None);
    expect("京O12345", Verdict::Review, Some("京O12345"));
}

#[test]
fn a_doubtful_plate_has_no_letters_that_no_plate_has() {
    for (raw, plate) in [
        ("粤D0I234O", "粤D012340"),
        ("粤BOD1234", "粤B0D1234"),
        ("粤BI2345O", "粤B123450"),
        ("蓝粤BOD1234", "粤B0D1234"),
    ] {
        expect(raw, Verdict::Review, Some(plate));
        assert_eq!(
            (check(raw).kind, check(raw).why),
            (Some(Kind::Loose), why::LOOSE),
            "{raw}"
        );
        // A member who typed it and a camera that read it mean the same plate.
        expect(plate, Verdict::Review, Some(plate));
    }
    for raw in ["粤BOOOOO", "粤BOOOOOO", "粤BDOOOOO"] {
        assert_eq!(
            (check(raw).verdict, check(raw).why),
            (Verdict::Reject, why::PLACEHOLDER),
            "{raw}"
        );
    }
}

#[test]
fn doubtful_shapes_are_for_a_person() {
    for raw in [
        "粤B888888",
        "粤BX12345",
        "京A12345学",
        "京A12345使",
        "京A12345领",
        "京A12345超",
        "赣E12345挂",
        "粤Z12345港",
        "京A1234港",
        "京A1234练",
        "粤B0123临",
        "京A1234应急",
        "粤OA2160",
        "京O1234警",
    ] {
        expect(raw, Verdict::Review, Some(raw));
    }
    for raw in [
        "粤B12345,粤B54321",
        "粤B12345；粤B54321",
        "粤B12345/粤B54321",
        "粤B12345、粤B54321",
        "粤B12345|粤B54321",
    ] {
        expect(raw, Verdict::Review, None);
    }
}

#[test]
fn of_several_parts_the_mainland_one_counts() {
    expect("粤ZJ068澳|MX7742|ZM127", Verdict::Ok, Some("粤ZJ068澳"));
    expect("MX7742｜粤ZJ068澳", Verdict::Ok, Some("粤ZJ068澳"));
    expect("粤B12345|粤B·12345", Verdict::Ok, Some("粤B12345"));
    expect("粤B12345,", Verdict::Ok, Some("粤B12345"));
    expect("粤B12345,无", Verdict::Ok, Some("粤B12345"));
    expect("MX7742|ZM127", Verdict::Reject, None);
    expect("hello, world", Verdict::Reject, None);
}

#[test]
fn genuine_plates_without_a_province_are_named() {
    for (raw, kind) in [
        ("使123456", Kind::EmbassyOld),
        ("123456使", Kind::Embassy2017),
        ("民航12345", Kind::Aviation),
        ("BA12345", Kind::Military2012),
        ("VA 00001", Kind::Military2012),
        ("WJ京12345", Kind::ArmedPolice),
        ("WJ12345", Kind::ArmedPolice),
        ("WJ·12345", Kind::ArmedPolice),
        ("WJ01警1234", Kind::ArmedPolice),
    ] {
        let checked = check(raw);
        assert_eq!(
            (checked.verdict, checked.kind),
            (Verdict::OkNosync, Some(kind)),
            "{raw}"
        );
        assert!(!checked.plate.unwrap().wechat_can_carry(), "{raw}");
    }
    let consulates = ["闽20401领", "粤1234领", "粤123456领"];
    for raw in consulates {
        assert_eq!(check(raw).kind, Some(Kind::Consul2018), "{raw}");
    }
}

#[test]
fn what_is_no_plate_is_refused_with_its_reason() {
    for (raw, why) in [
        ("PECT600", why::NOT_MAINLAND),
        ("OTM2022", why::NOT_MAINLAND),
        ("ABC-1234", why::NOT_MAINLAND),
        ("pl8rec", why::NOT_MAINLAND),
        ("А802ТМ193", why::NOT_MAINLAND),
        ("粤B***45", why::MASKED),
        ("粤B＊＊＊45", why::MASKED),
        ("粤Bxxxxxx", why::MASKED),
        ("粤BXXXXX", why::MASKED),
        ("粤A12xx5", why::MASKED),
        ("粤B00000", why::PLACEHOLDER),
        ("粤BD00000", why::PLACEHOLDER),
        ("默A00000", why::PLACEHOLDER),
        ("警A00000", why::PLACEHOLDER),
        ("京A1234567", why::NO_SHAPE),
        ("赣E1234", why::NO_SHAPE),
        ("粤", why::NO_SHAPE),
        ("粤В12345", why::NO_SHAPE),
        ("粤B①2345", why::NO_SHAPE),
        ("粤B1🚗345", why::NO_SHAPE),
        ("🚗", why::NO_SHAPE),
        ("\u{fffd}\u{fffd}B12345", why::NO_SHAPE),
        ("粤B1\u{7}2345", why::NO_SHAPE),
        ("绮B12345", why::NO_SHAPE),
        ("%E7%B2%A4B12345", why::NO_SHAPE),
        ("粤B12345粤B54321", why::NO_SHAPE),
        ("12345京警", why::NO_SHAPE),
        ("粤A1234冷", why::NO_SHAPE),
        ("%s", why::NO_SHAPE),
    ] {
        let checked = check(raw);
        assert_eq!(
            (checked.verdict, checked.why, checked.plate),
            (Verdict::Reject, why, None),
            "{raw}"
        );
    }
    assert_eq!(check("pect-600").seen.unwrap().expose(), "PECT600");
    expect("粤bxx345", Verdict::Ok, Some("粤BXX345"));
}

#[test]
fn long_readings_are_bounded() {
    let why = |raw: &str| check(raw).why;

    assert_eq!(why(&"粤B12345".repeat(10)), why::TOO_LONG);
    assert_eq!(why(&"9".repeat(1_000_000)), why::TOO_LONG);
    assert_eq!(why(&format!("粤B{}12345", " ".repeat(1_000_000))), why::TOO_LONG);
    assert_eq!(why(&" ".repeat(1_000_000)), why::NO_PLATE);
    assert_eq!(why(&format!("粤B12345{}", " ".repeat(500))), why::FITS);
}

fn noisy() -> impl Strategy<Value = String> {
    let alphabet = proptest::sample::select(
        "粤京使民航WJ警学港澳领应急挂临无蓝黄绿牌色ABDFIOXZ0123456789x*·-_,|/ \u{3000}\0\u{feff}粵１Ａ\n"
            .chars()
            .collect::<Vec<_>>(),
    );
    proptest::collection::vec(alphabet, 0..14).prop_map(String::from_iter)
}

fn holds_for(raw: &str) {
    let checked = check(raw);
    if checked.verdict.may_be_sent() {
        let plate = checked.plate.clone().expect("a plate that may be sent is there");
        let again = check(plate.expose());
        assert_eq!(
            (again.verdict, again.plate, again.kind),
            (Verdict::Ok, Some(plate), checked.kind)
        );
    }
    if let Some(plate) = &checked.plate {
        let carried = plate.wechat_can_carry();
        assert_eq!(carried, checked.verdict != Verdict::OkNosync, "{raw:?}");
    }
    assert!(checked.plate.is_none() || !matches!(checked.verdict, Verdict::NoPlate | Verdict::Reject));
}

proptest! {
    #[test]
    fn any_text_gets_a_verdict_that_keeps_the_promises(raw in any::<String>()) {
        holds_for(&raw);
    }

    #[test]
    fn plate_like_text_gets_a_verdict_that_keeps_the_promises(raw in noisy()) {
        holds_for(&raw);
    }

    #[test]
    fn decoration_does_not_change_the_plate(
        head in proptest::sample::select("京津沪渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新".chars().collect::<Vec<_>>()),
        authority in "[A-HJ-NP-Z]",
        serial in "[A-HJ-NP-WYZ0-9]{4}[1-9]",
        before in proptest::sample::select(vec!["", " ", "\"", "\u{feff}", "蓝", "黄色", "绿牌"]),
        between in proptest::sample::select(vec!["", " ", "·", "-", "•", "\u{3000}", "\u{200b}"]),
        after in proptest::sample::select(vec!["", " ", "\0", "_1", ",blue", "蓝", "|MX7742"]),
    ) {
        let checked = check(&format!("{before}{head}{authority}{between}{serial}{after}"));

        prop_assert_eq!(checked.verdict, Verdict::Ok);
        let plate = format!("{head}{authority}{serial}");
        prop_assert_eq!(checked.plate.as_ref().map(Plate::expose), Some(plate.as_str()));
    }
}
