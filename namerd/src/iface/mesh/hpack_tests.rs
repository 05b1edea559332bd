//! The examples of RFC 7541, and bounds.

use super::*;
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    let hex: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    hex.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex")).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let headers = decoder.decode(block, 16_000).expect("a block");
    headers.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const FIRST: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];

/// Appendices C.3 and C.4: three requests on one connection, plain and with Huffman's code.
#[test]
fn the_requests_of_the_standard() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let [method, scheme, path, authority] = FIRST;
    let second = [method, scheme, path, authority, ("cache-control", "no-cache")];
    let third = [method, (":scheme", "https"), (":path", "/index.html"), authority, ("custom-key", "custom-value")];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::default();
        for (block, expected) in blocks.iter().zip([&FIRST[..], &second, &third]) {
            assert_eq!(decoded(&mut decoder, &bytes(block)), pairs(expected));
        }
        assert_eq!((decoder.entries.len(), decoder.size), (3, 164), "as the standard counts");
    }
}

/// Appendix C.6: responses, with entries that leave a table of 256 bytes.
#[test]
fn entries_leave_a_small_table() {
    let mut decoder = Decoder::default();
    decoder.decode(&[0x3f, 0xe1, 0x01], 0).expect("a size of 256");
    let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
        919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let location = ("location", "https://www.example.com");
    let expected = [(":status", "302"), ("cache-control", "private"), date, location];
    assert_eq!(decoded(&mut decoder, &bytes(first)), pairs(&expected));
    assert_eq!(decoder.size, 222);
    let second = [(":status", "307"), ("cache-control", "private"), date, location];
    assert_eq!(decoded(&mut decoder, &bytes("4883 640e ffc1 c0bf")), pairs(&second));
    assert_eq!((decoder.entries.len(), decoder.size), (4, 222));
    decoder.decode(&[0x20], 0).expect("a size of 0");
    assert_eq!((decoder.entries.len(), decoder.size), (0, 0));
}

#[test]
fn broken_blocks_are_refused() {
    for (block, why) in [
        ("80", "index 0"),
        ("be", "an entry that is not there"),
        ("ff ff ff ff ff ff 0f", "a number without end"),
        ("00 05 61", "a string that is cut off"),
        ("3f e2 1f", "a table larger than this side allows"),
        ("82 20", "a size after a header"),
        ("00 81 ff 00", "padding of eight ones"),
        ("00 81 00 00", "padding of zeros"),
        ("00 84 ff ff ff ff 00", "the end of a string inside"),
    ] {
        assert_eq!(Decoder::default().decode(&bytes(block), 16_000), Err(Refused::Broken), "{why}");
    }
}

#[test]
fn a_short_block_cannot_stand_for_a_long_list() {
    let mut decoder = Decoder::default();
    let mut seed = BytesMut::new();
    encode(b"a", &[b'x'; 3900], &mut seed);
    seed[0] = 0x40;
    decoder.decode(&seed, 4000).expect("one entry");
    assert_eq!(decoder.decode(&[0xbe; 4], 16_000).map(|headers| headers.len()), Ok(4));
    assert_eq!(decoder.decode(&[0xbe; 30_000], 16_000), Err(Refused::TooLarge));
    // Each of the shortest headers counts as well.
    assert_eq!(decoder.decode(&[0x82; 30_000], 16_000), Err(Refused::TooLarge));
    // A long string of short codes is not even made.
    assert_eq!(decoder.decode(&[&bytes("00 01 61 ff 81 7c")[..], &[0; 16_000]].concat(), 100), Err(Refused::TooLarge));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(headers in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..9)) {
        let mut block = BytesMut::new();
        headers.iter().for_each(|(name, value)| encode(name, value, &mut block));
        let mut decoder = Decoder::default();
        let back = decoder.decode(&block, 100_000).expect("a block");
        prop_assert!(decoder.entries.is_empty());
        let back: Vec<_> = back.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(back, headers);
    }

    #[test]
    fn no_blocks_do_harm(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..10)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            if let Ok(headers) = decoder.decode(&block, 2000) {
                prop_assert!(headers.iter().map(|(n, v)| n.len() + v.len() + OVERHEAD).sum::<usize>() <= 2000);
            }
            let size: usize = decoder.entries.iter().map(|(n, v)| n.len() + v.len() + OVERHEAD).sum();
            prop_assert_eq!(size, decoder.size);
            prop_assert!(size <= TABLE_SIZE);
        }
    }
}
