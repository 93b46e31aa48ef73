//! The words of the pure chain (纯链式), from one table.
//!
//! Lives here: one type per place in the tree of the business-circle, vehicle-parking and parking-reminder endpoints, so
//! that only what exists can be written. Everything else of APIv3 is reached with [`Call::seg`]. Does not live here: how
//! a call is sent (`client`, `blocking`).

use std::fmt::Display;
use std::ops::Deref;

use crate::call::Call;
use crate::client::sender::Sender;

/// Writes a type for every place, a method for every step. A step with an argument binds the variable it is named after.
macro_rules! chain {
    ($($(#[$doc:meta])* $place:ident {
        $($(#[$step_doc:meta])* $step:ident $(($variable:ident))? $segment:literal => $next:ident,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $place<S = Sender>(Call<S>);

        impl<S: Clone> $place<S> {
            $(
                $(#[$step_doc])*
                #[doc = concat!("\n\nGoes on to `", $segment, "`.")]
                pub fn $step(&self $(, $variable: impl Display)?) -> $next<S> {
                    chain!(@variable variable $($variable)?);
                    self.0.step($segment, variable).into()
                }
            )*
        }

        impl<S> From<Call<S>> for $place<S> {
            fn from(call: Call<S>) -> $place<S> {
                $place(call)
            }
        }

        impl<S> Deref for $place<S> {
            type Target = Call<S>;
            fn deref(&self) -> &Call<S> {
                &self.0
            }
        }
    )*};
    (@variable $out:ident) => { let $out = None; };
    (@variable $out:ident $variable:ident) => { let $out = Some((stringify!($variable), $variable.to_string())); };
}

chain! {
    /// `v3`
    V3 {
        /// Smart business circle (智慧商圈).
        businesscircle "businesscircle" => BusinessCircle,
        /// Pay-score parking (微信支付分停车).
        vehicle "vehicle" => Vehicle,
        /// Parking reminders (停车便捷缴费) are below this.
        parking "parking" => Parking,
        /// Platform certificates (下载平台证书): GET.
        certificates "certificates" => Call,
        /// Self-test below this.
        security "security" => Security,
    }

    /// `v3/businesscircle`
    BusinessCircle {
        /// Member parking state (商圈会员停车状态同步): POST.
        parkings "parkings" => Call,
        /// Points sync is below this.
        points "points" => Points,
        /// Points authorisation is below this.
        user_authorizations "user-authorizations" => UserAuthorizations,
        /// Members are below this.
        users "users" => Users,
    }

    /// `v3/businesscircle/points`
    Points {
        /// Points sync (商圈会员积分同步): POST.
        notify "notify" => Call,
    }

    /// `v3/businesscircle/user-authorizations`
    UserAuthorizations {
        /// Points-authorisation query (商圈会员积分服务授权状态查询): GET.
        openid(openid) "{openid}" => Call,
    }

    /// `v3/businesscircle/users`
    Users {
        /// One member.
        openid(openid) "{openid}" => User,
    }

    /// `v3/businesscircle/users/{openid}`
    User {
        /// The member's points.
        points "points" => UserPoints,
    }

    /// `v3/businesscircle/users/{openid}/points`
    UserPoints {
        /// Pending-points query (商圈会员待积分状态查询): GET.
        commit_status "commit_status" => Call,
    }

    /// `v3/vehicle`
    Vehicle {
        /// Plates and entries.
        parking "parking" => VehicleParking,
        /// Charges.
        transactions "transactions" => VehicleTransactions,
    }

    /// `v3/vehicle/parking`
    VehicleParking {
        /// Plate service is below this.
        services "services" => VehicleServices,
        /// Create an entry (创建停车入场): POST.
        parkings "parkings" => Call,
    }

    /// `v3/vehicle/parking/services`
    VehicleServices {
        /// Is the service open for this plate (查询车牌服务开通信息): GET.
        find "find" => Call,
    }

    /// `v3/vehicle/transactions`
    VehicleTransactions {
        /// Accept a charge at the exit (扣费受理): POST.
        parking "parking" => Call,
        /// Query a charge (查询订单): GET.
        out_trade_no(out_trade_no) "out-trade-no/{out_trade_no}" => Call,
    }

    /// `v3/parking`
    Parking {
        /// Parking reminders (停车便捷缴费).
        reminders "reminders" => Reminders,
    }

    /// `v3/parking/reminders`
    Reminders {
        /// Submit a parking lot (停车场进件): POST.
        application "application" => Application,
        /// List applications: GET.
        applications "applications" => Call,
        /// A lot and whether it is enabled: GET.
        parking_lot "parking-lot" => Call,
        /// A car entered (同步车辆入场): POST.
        entry "entry" => Call,
        /// A car left (同步车辆离场): POST.
        exit "exit" => Call,
        /// Payment result (同步支付结果): POST.
        payment "payment" => Call,
        /// Monthly cards and the like (非临停扩展支付): POST.
        ext_payment "ext-payment" => Call,
        /// The fee of a stay: POST.
        parking_fee "parking-fee" => Call,
    }

    /// `v3/parking/reminders/application`
    Application {
        /// One application: GET. The path has this word; parameters follow it: `.query().query("…", …)`.
        query "query" => Call,
        /// Withdraw an application: POST.
        withdraw "withdraw" => Call,
    }

    /// `v3/security`
    Security {
        /// Self-test of signing, sealing and notification (回显): POST.
        echo "echo" => Call,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;
    use http::Method;

    #[test]
    fn every_word_of_the_table_ends_at_its_documented_path() {
        let v3: V3<()> = Call::new((), Route::new("v3")).into();
        let (circle, vehicle, reminders) = (v3.businesscircle(), v3.vehicle(), v3.parking().reminders());
        let table: [(&Call<()>, &str); 19] = [
            (&circle.parkings(), "/v3/businesscircle/parkings"),
            (&circle.points().notify(), "/v3/businesscircle/points/notify"),
            (
                &circle.user_authorizations().openid("o1"),
                "/v3/businesscircle/user-authorizations/o1",
            ),
            (
                &circle.users().openid("o/1").points().commit_status(),
                "/v3/businesscircle/users/o%2F1/points/commit_status",
            ),
            (
                &vehicle.parking().services().find(),
                "/v3/vehicle/parking/services/find",
            ),
            (&vehicle.parking().parkings(), "/v3/vehicle/parking/parkings"),
            (&vehicle.transactions().parking(), "/v3/vehicle/transactions/parking"),
            (
                &vehicle.transactions().out_trade_no("t-1"),
                "/v3/vehicle/transactions/out-trade-no/t-1",
            ),
            (&reminders.application(), "/v3/parking/reminders/application"),
            (
                &reminders.application().query().query("parking_lot_audit_no", 1),
                "/v3/parking/reminders/application/query?parking_lot_audit_no=1",
            ),
            (
                &reminders.application().withdraw(),
                "/v3/parking/reminders/application/withdraw",
            ),
            (&reminders.applications(), "/v3/parking/reminders/applications"),
            (&reminders.parking_lot(), "/v3/parking/reminders/parking-lot"),
            (&reminders.entry(), "/v3/parking/reminders/entry"),
            (&reminders.exit(), "/v3/parking/reminders/exit"),
            (&reminders.payment(), "/v3/parking/reminders/payment"),
            (&reminders.ext_payment(), "/v3/parking/reminders/ext-payment"),
            (&reminders.parking_fee(), "/v3/parking/reminders/parking-fee"),
            (&v3.security().echo(), "/v3/security/echo"),
        ];

        for (call, path) in table {
            assert_eq!(call.request(Method::GET).unwrap().route.resolve().unwrap(), path);
        }
    }
}
