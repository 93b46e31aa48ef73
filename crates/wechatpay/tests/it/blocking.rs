//! The blocking client: no runtime needed, inside and outside a tokio program.

use wechatpay_sandbox::Sandbox;

use crate::{PATH, blocking, state};

#[test]
fn the_blocking_client_needs_no_runtime_and_serves_many_threads() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sandbox = runtime.block_on(Sandbox::start()).unwrap();
    let (client, report) = (blocking(&sandbox), state(&sandbox));

    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..4 {
                    client[PATH].post(&report).unwrap();
                }
            });
        }
    });

    assert_eq!(client.business_circle().report_parking(&report).unwrap().status(), 204);
    assert_eq!(sandbox.ledger().parkings().len(), 33);
}

#[test]
fn the_blocking_client_may_be_used_and_dropped_inside_a_runtime_of_either_kind() {
    let multi_thread = tokio::runtime::Runtime::new().unwrap();
    let current_thread = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sandbox = multi_thread.block_on(Sandbox::start()).unwrap();
    let report = state(&sandbox);
    let use_and_drop = async |client: wechatpay::blocking::Client| {
        client[PATH].post(&report).unwrap();
        drop(client);
    };

    current_thread.block_on(use_and_drop(blocking(&sandbox)));
    multi_thread.block_on(use_and_drop(blocking(&sandbox)));

    assert_eq!(sandbox.ledger().parkings().len(), 2);
}
