//! What parking costs, as a car park's application tells it.
//!
//! Called by `lots`.

use serde::{Deserialize, Serialize};

use super::{PlateType, VehicleType};
use crate::api::fields::{FieldError, open_enum};

/// A tariff. Amounts in fen, durations in minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChargingRule {
    /// Which of the three lists counts; it must not be empty.
    pub rule_type: ChargingRuleType,
    /// How the limit of a fee counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee_limit_type: Option<FeeLimitType>,
    /// What a day is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_limit_type: Option<DailyLimitType>,
    /// How time is rounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_rounding_type: Option<TimeRoundingType>,
    /// Free minutes after the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_entry_duration: Option<i64>,
    /// Free minutes after paying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_exit_duration: Option<i64>,
    /// By interval.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixed_interval_rule: Vec<FixedIntervalRule>,
    /// By duration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub duration_segment_rule: Vec<DurationSegmentRule>,
    /// Per entry. The name on the wire is misspelt, as documented.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_entry_rule: Vec<PerEntryRule>,
    /// What counts as a holiday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holiday_mode: Option<HolidayMode>,
    /// How several limits go together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate_limit_mode: Option<AggregateLimitMode>,
    /// From when on is charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_charge_time_mode: Option<FirstChargeTimeMode>,
}

impl ChargingRule {
    pub(super) fn check(&self) -> Result<(), FieldError> {
        self.rule_type.check("charging_rule.rule_type")?;
        let missing = match self.rule_type {
            ChargingRuleType::FixedInterval if self.fixed_interval_rule.is_empty() => "fixed_interval_rule",
            ChargingRuleType::Segment if self.duration_segment_rule.is_empty() => "duration_segment_rule",
            ChargingRuleType::PerEntry if self.pre_entry_rule.is_empty() => "pre_entry_rule",
            ChargingRuleType::FixedInterval
            | ChargingRuleType::Segment
            | ChargingRuleType::PerEntry
            | ChargingRuleType::Unknown
            | ChargingRuleType::Unlisted(_) => return Ok(()),
        };
        Err(FieldError::new(missing, "is empty, but rule_type names it"))
    }
}

/// Writes a rule: the members that all have, then its own, every one optional.
macro_rules! rule {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            /// On which days.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub day_type: Option<DayType>,
            /// From when on, `HH:MM`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub start_time: Option<String>,
            /// Until when, `HH:MM`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub end_time: Option<String>,
            /// For which cars.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub vehicle_type: Option<VehicleType>,
            /// For which way of parking.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub plate_type: Option<PlateType>,
            /// At most this much a day.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub max_fee_per_day: Option<i64>,
            $($(#[$field_doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }
    };
}

rule! {
    /// A price per interval.
    FixedIntervalRule {
        /// The first interval.
        first_duration: i64,
        /// Its price.
        first_amount: i64,
        /// Each further interval.
        interval_duration: i64,
        /// Its price.
        interval_amount: i64,
        /// At most this much.
        interval_max_amount: i64,
        /// How often the free minutes count.
        free_period_charging_mode: FreePeriodCharging,
        /// From when on they count.
        free_period_calculation_mode: FreePeriodCalculation,
        /// Whether new-energy cars park free.
        is_green_vehicle_free_parking: bool,
        /// How often the first interval counts.
        first_duration_mode: FirstDurationMode,
    }
}

rule! {
    /// A price by how long the stay is.
    DurationSegmentRule {
        /// Once or by interval.
        charge_mode: ChargeMode,
        /// From this long.
        duration_from: i64,
        /// Up to this long; 0 is open.
        duration_to: i64,
        /// The price, when once.
        fixed_amount: i64,
        /// The interval, when by interval.
        interval_min: i64,
        /// Its price.
        interval_amount: i64,
        /// At most this much.
        interval_max_amount: i64,
    }
}

rule! {
    /// A price per entry.
    PerEntryRule {
        /// The price.
        amount: i64,
    }
}

open_enum! {
    /// Which list of rules counts.
    ChargingRuleType {
        /// Unknown.
        Unknown = "CHARGING_RULE_UNKNOWN",
        /// By interval.
        FixedInterval = "CHARGING_RULE_FIXED_INTERVAL",
        /// By duration.
        Segment = "CHARGING_RULE_SEGMENT",
        /// Per entry.
        PerEntry = "CHARGING_RULE_PER_ENTRY",
    }

    /// How the limit of a fee counts.
    FeeLimitType {
        /// Unknown.
        Unknown = "FEE_LIMIT_UNKNOWN",
        /// Over all rules.
        Aggregate = "FEE_LIMIT_AGGREGATE",
        /// For each rule.
        Single = "FEE_LIMIT_SINGLE",
    }

    /// What a day is.
    DailyLimitType {
        /// Unknown.
        Unknown = "DAILY_LIMIT_UNKNOWN",
        /// 24 hours from the entry.
        Rolling24h = "DAILY_LIMIT_ROLLING_24H",
        /// From midnight.
        CalendarDay = "DAILY_LIMIT_CALENDAR_DAY",
    }

    /// How time is rounded.
    TimeRoundingType {
        /// Unknown.
        Unknown = "TIME_ROUND_UNKNOWN",
        /// Down.
        Down = "TIME_ROUND_DOWN",
        /// Up.
        Up = "TIME_ROUND_UP",
    }

    /// What counts as a holiday. The words are misspelt, as documented.
    HolidayMode {
        /// Unknown.
        Unknown = "HOLIDAY_MODE_UNKNOWN",
        /// By law.
        Legal = "HOLIDAY_MODE_LEGAL_MODY",
        /// By calendar.
        Calendar = "HOLIDAY_MODE_CALENDAR_MODY",
        /// By the banks' calendar.
        Financial = "HOLIDAY_MODE_FINANCIAL_MODY",
    }

    /// How several limits go together.
    AggregateLimitMode {
        /// Unknown.
        Unknown = "AGGREGATE_LIMIT_MODE_UNKNOWN",
        /// As usual.
        Normal = "AGGREGATE_LIMIT_MODE_NORMAL",
        /// The smallest.
        Min = "AGGREGATE_LIMIT_MODE_MIN",
    }

    /// From when on is charged.
    FirstChargeTimeMode {
        /// Unknown.
        Unknown = "FIRST_CHARGE_TIME_MODE_UNKNOWN",
        /// From the entry.
        Enter = "FIRST_CHARGE_TIME_MODE_ENTER",
        /// After the free minutes.
        AfterFree = "FIRST_CHARGE_TIME_MODE_AFTER_FREE",
    }

    /// On which days a rule counts.
    DayType {
        /// Unknown.
        Unknown = "DAY_TYPE_UNKNOWN",
        /// Working days.
        Weekday = "DAY_TYPE_WEEKDAY",
        /// Holidays.
        Holiday = "DAY_TYPE_HOLIDAY",
        /// All.
        AllDay = "DAY_TYPE_ALL_DAY",
    }

    /// How often free minutes count.
    FreePeriodCharging {
        /// Unknown.
        Unknown = "FREE_PERIOD_CHARGING_UNKNOWN",
        /// Once per entry.
        OncePerEntry = "FREE_PERIOD_CHARGING_ONCE_PER_ENTRY",
        /// Once in 24 hours.
        OncePer24Hours = "FREE_PERIOD_CHARGING_ONCE_PER_24_HOURS",
        /// Once a day.
        OncePerCalendarDay = "FREE_PERIOD_CHARGING_ONCE_PER_CALENDAR_DAY",
        /// Until they are used up.
        CumulativeQuota = "FREE_PERIOD_CHARGING_CUMULATIVE_QUOTA_CALCULATION",
    }

    /// From when on free minutes count.
    FreePeriodCalculation {
        /// Unknown.
        Unknown = "FREE_PERIOD_CAL_UNKNOWN",
        /// Together with the charge.
        ConcurrentStart = "FREE_PERIOD_CAL_CONCURRENT_START",
        /// Before it.
        SequentialStart = "FREE_PERIOD_CAL_SEQUENTIAL_START",
    }

    /// How often the first interval counts.
    FirstDurationMode {
        /// Unknown.
        Unknown = "FIRST_DURATION_MODE_UNKNOWN",
        /// Once.
        OnlyFirst = "FIRST_DURATION_MODE_ONLY_FIRST_DURATION",
        /// Every time.
        EveryFirst = "FIRST_DURATION_MODE_EVERY_FIRST_DURATION",
    }

    /// Once or by interval. These words have no prefix, as documented.
    ChargeMode {
        /// Unknown.
        Unknown = "UNKNOWN",
        /// By interval.
        Interval = "INTERVAL",
        /// Once.
        OneTime = "ONE_TIME",
    }
}
