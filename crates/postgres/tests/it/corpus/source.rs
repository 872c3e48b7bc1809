//! Finds the statements in a source file, by its tokens: so neither a macro around a statement nor
//! its layout hides it, and comments do not count.

use std::collections::HashMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A statement in a source file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// `Sql::new`, with its text.
    Text(String),
    /// `Sql::owned`: its text is known at run time.
    Built,
    /// `Sql::new` with a text that is neither a literal nor made of literals.
    Unreadable(String),
}

/// Macros of the file without parameters, which stand for a part of a text.
type Macros = HashMap<String, TokenStream>;

/// All statements in `code`, in their order; its modules of tests are left out.
pub(super) fn statements_of(code: &str) -> Vec<Found> {
    let tokens: TokenStream = code.parse().expect("Rust");
    let mut macros = Macros::new();
    collect_macros(&tokens, &mut macros);
    let mut found = Vec::new();
    search(tokens, &macros, &mut found);
    found
}

fn search(tokens: TokenStream, macros: &Macros, found: &mut Vec<Found>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if let Some(length) = test_module(rest) {
            at += length;
            continue;
        }
        match call(rest) {
            Some(("new", arguments)) => found.push(statement(&arguments, macros)),
            Some(("owned", _)) => found.push(Found::Built),
            Some(_) | None => {}
        }
        if let TokenTree::Group(group) = &tokens[at] {
            search(group.stream(), macros, found);
        }
        at += 1;
    }
}

/// `Sql::method(arguments)`, also at the end of a longer path.
fn call(tokens: &[TokenTree]) -> Option<(&'static str, TokenStream)> {
    let [name, first, second, method, TokenTree::Group(arguments), ..] = tokens else {
        return None;
    };
    let is_call = is(name, "Sql") && is(first, ":") && is(second, ":");
    let is_call = is_call && arguments.delimiter() == Delimiter::Parenthesis;
    let method = ["new", "owned"].into_iter().find(|known| is(method, known));
    method.filter(|_| is_call).map(|method| (method, arguments.stream()))
}

/// How many tokens `#[cfg(test)] mod name { .. }` at the start of `tokens` has.
fn test_module(tokens: &[TokenTree]) -> Option<usize> {
    let [hash, TokenTree::Group(attribute), keyword, TokenTree::Ident(_), body, ..] = tokens else {
        return None;
    };
    let is_test = is(hash, "#") && attribute.stream().to_string().replace(' ', "") == "cfg(test)";
    (is_test && is(keyword, "mod") && matches!(body, TokenTree::Group(_))).then_some(5)
}

fn statement(arguments: &TokenStream, macros: &Macros) -> Found {
    // The text is what follows the first comma; the summary has none outside its quotes.
    let text: TokenStream =
        arguments.clone().into_iter().skip_while(|t| !is(t, ",")).skip(1).collect();
    match text_of(text, macros) {
        Some(text) => Found::Text(text),
        None => Found::Unreadable(format!("Sql::new({arguments})")),
    }
}

/// The text that literals, `concat!` and macros of the file make; `None` for anything else.
fn text_of(tokens: TokenStream, macros: &Macros) -> Option<String> {
    let mut text = String::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Literal(literal) => {
                let literal: syn::LitStr = syn::parse2(TokenTree::Literal(literal).into()).ok()?;
                text.push_str(&literal.value());
            }
            TokenTree::Ident(name) => {
                let Some(TokenTree::Punct(_)) = tokens.next_if(|token| is(token, "!")) else {
                    return None;
                };
                let Some(TokenTree::Group(arguments)) = tokens.next() else {
                    return None;
                };
                let body = match name.to_string().as_str() {
                    "concat" => arguments.stream(),
                    name => macros.get(name)?.clone(),
                };
                text.push_str(&text_of(body, macros)?);
            }
            // Between the parts of a `concat!`, or at the end.
            TokenTree::Punct(punct) if punct.as_char() == ',' => {}
            TokenTree::Punct(_) | TokenTree::Group(_) => return None,
        }
    }
    Some(text)
}

/// Macros of the form `macro_rules! name { () => { body }; }`.
fn collect_macros(tokens: &TokenStream, macros: &mut Macros) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    for window in tokens.windows(4) {
        let [keyword, bang, TokenTree::Ident(name), TokenTree::Group(rules)] = window else {
            continue;
        };
        if !(is(keyword, "macro_rules") && is(bang, "!")) {
            continue;
        }
        let rules: Vec<TokenTree> = rules.stream().into_iter().collect();
        if let [TokenTree::Group(parameters), _, _, TokenTree::Group(body), ..] = &rules[..]
            && parameters.stream().is_empty()
        {
            macros.insert(name.to_string(), body.stream());
        }
    }
}

fn is(token: &TokenTree, text: &str) -> bool {
    match token {
        TokenTree::Ident(ident) => ident == text,
        TokenTree::Punct(punct) => text.chars().eq([punct.as_char()]),
        TokenTree::Group(_) | TokenTree::Literal(_) => false,
    }
}

#[test]
fn statements_are_found_wherever_they_are() {
    let code = r##"
        //! Sql::new("no", "a comment")
        macro_rules! columns { () => { "id, name" }; }
        const A: Sql = Sql::new("a, b", "SELECT \
            1",);
        static B: Sql = crate::Sql::new("b", concat!("SELECT ", columns!(), " FROM t")).planned();
        fn f() { vec![Sql::new("c", r#"SELECT "c""#), Sql::owned("d", text), Sql::new("e", TEXT)]; }
        #[cfg(test)] mod tests { const F: Sql = Sql::new("f", "none"); }
        const G: Sql = Sql::new("g", unknown!());
    "##;
    let text = |text: &str| Found::Text(text.to_owned());
    let unreadable = |call: &str| Found::Unreadable(call.to_owned());
    let expected = [
        text("SELECT 1"),
        text("SELECT id, name FROM t"),
        text("SELECT \"c\""),
        Found::Built,
        unreadable("Sql::new(\"e\" , TEXT)"),
        unreadable("Sql::new(\"g\" , unknown ! ())"),
    ];
    assert_eq!(statements_of(code), expected);
}
