//! Tests of the crate's public face: tables, seeded simulations in virtual time, and a stress test.

mod accrual;
mod budget;
mod pick;
mod simulation;
mod stress;
mod support;
mod world;
