//! Which fields an update changes.

use forebay_proto::token::v1::Token;
use forebay_testkit as testkit;

use crate::fixture::{Service, UNUSED_MINT, create, get, given, token, update};

#[tokio::test]
async fn a_mask_says_what_changes() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let old = create(&mut client, token(UNUSED_MINT)).await;
    let bare = Token { id: old.id.clone(), ..Token::default() };
    let new =
        Token { symbol: "NEW".to_owned(), name: "New".to_owned(), decimals: 7, ..bare.clone() };
    let symbol_only = Token { symbol: "NEW".to_owned(), ..bare.clone() };
    let cleared =
        Token { logo_uri: String::new(), tags: Vec::new(), extensions: [].into(), ..old.clone() };
    let replaced = Token { mint: old.mint.clone(), ..new.clone() };
    let resymboled = Token { symbol: "NEW".to_owned(), ..old.clone() };
    let six = Token { decimals: 6, ..old.clone() };
    let cases: [(&Token, &[&str], &Token); 6] = [
        (&new, &["symbol"], &resymboled),
        // Without a mask the fields that are set.
        (&symbol_only, &[], &resymboled),
        // A mask is how a field is emptied.
        (&new, &["logo_uri", "tags", "extensions"], &cleared),
        (&new, &["*"], &replaced),
        // The whole token as it was read, sent back with one change.
        (&six, &[], &six),
        (&six, &["*"], &six),
    ];
    for (sent, paths, expected) in cases {
        update(&mut client, unguarded(&old), &["*"]).await;
        let after = update(&mut client, unguarded(sent), paths).await;
        assert_eq!(given(after), given(expected.clone()), "{paths:?}");
    }
    let now = get(&mut client, &old.id).await;
    assert_eq!(update(&mut client, bare, &[]).await, now, "nothing to change is no change");
}

/// The token without the etag of a version that is gone.
fn unguarded(token: &Token) -> Token {
    Token { etag: String::new(), ..token.clone() }
}
