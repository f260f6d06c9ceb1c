//! A name of a function, as a symbol table or debug information may have it. Seeds: mangled names.
#![no_main]

use heaptape::symbols::demangle;
use heaptape::text::Text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    let readable = demangle(name);
    assert!(readable == name || readable.len() <= 4000);
    assert!(!Text::new(&readable).as_str().contains(char::is_control));
});
