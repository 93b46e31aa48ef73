//! Plates: what a raw reading is, and whether WeChat Pay can carry it.
