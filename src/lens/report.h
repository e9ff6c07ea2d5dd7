// Start here: what one run of a model's encoder showed, as one report. terminal.h and json.h say the same report, each in its
// own way. The room knows the tape of a run (q, k, v and log-sum-exp of every attention layer), not how the model ran.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layers/tape.h"
#include "lens/piece_map.h"
#include "lens/words.h"
#include "models/roles.h"
#include "models/tokenizer.h"

namespace qkv::lens {

// What is looked at; all of it stays the caller's.
struct Run {
  std::string_view text;
  std::string_view language;  // of the text
  std::span<const models::Piece> pieces;
  const layers::AttentionTape* tape = nullptr;  // its encoder layers are used
  std::span<const models::HeadRole> roles;
  const layers::AttentionTape* untrained = nullptr;  // the same before training, for the page
};

struct ReportOptions {
  std::string query;          // the word that asks; empty (default): every pronoun
  int layer = -1, head = -1;  // also ask this head, and show its matrix; −1 (default): none
  bool every_head = false;    // ask every head
  Unit unit = Unit::words;
  int top = 8;  // at most so many words in Reading::read
};

struct Read {
  int word = 0;  // index into Report::words
  float weight = 0;
};

// What a head was measured to do; no name if it was not measured.
struct Role {
  std::string name;
  double score = 0;   // on labelled examples, 0 to 1
  double chance = 0;  // what a guess would score
  bool guided = false;
};

// One word's question to one head, and what it read.
struct Reading {
  int word = 0;
  int layer = 0;
  int head = 0;
  Role role;
  std::vector<Read>
      read{};  // words of the sentence, largest weight first, ties to the lower index, none below 0.0005
  std::vector<Read>
      specials{};  // what went to the language mark and to the end of the sentence, in their order
  float remainder = 0;  // 1 − Σ read; what went to specials is part of it
};

struct HeadReport {
  int layer = 0;
  int head = 0;
  std::vector<Role> roles;  // farthest above chance first
  float sink = 0;           // mean weight that the sentence's words give to the end of the sentence
  float entropy = 0;        // of the sentence's words' rows, mean, in nats
  std::vector<Reading> asked{};
};

struct HeadMatrix {
  int layer = 0;
  int head = 0;
  Role role;
  std::vector<float> weights;  // [words, words]
};

struct Report {
  std::string text;
  std::string language;
  Unit unit = Unit::words;
  std::vector<Word> words;  // the sentence's, then the special ones
  int sentence_words = 0;
  int layers = 0;
  int heads = 0;
  std::string query;             // what was asked for; empty: pronouns
  std::vector<Reading> asked{};  // word by word; for each the most fitting head first
  std::vector<Reading>
      overview{};  // without pronoun and query: what each word read through its most fitting head
  std::vector<HeadReport> head_reports{};  // layer by layer; empty unless asked for
  std::optional<HeadMatrix> matrix{};
};

// A pronoun asks the head with the role coreference. Any other word asks the best head of the roles syntax and meaning, then
// that of coreference. A model without measured roles: the head through which the word reads another word most strongly.
// Throws std::invalid_argument if the query is not in the text or if layer and head are not in the model.
Report make_report(const Run& run, const ReportOptions& options);

// ---- parts, which explain.h uses too

// The encoder's layers on the tape, in order. Throws std::invalid_argument if there is none.
std::vector<const layers::AttentionRecord*> encoder_records(const layers::AttentionTape& tape);

// Throws std::invalid_argument, saying which there are, unless both are −1 or both name a head.
void check_head(std::span<const layers::AttentionRecord* const> records, int layer, int head);

// The indices of the words that ask: where the phrase stands, or every pronoun if it is empty.
// Throws std::invalid_argument if the phrase is not in the text.
std::vector<int> asking_words(std::string_view text, const PieceMap& map, Unit unit,
                              const std::string& phrase);

// The exact weights [queries, keys] of one head, by qkv::weights from the recorded q, k and log-sum-exp.
std::vector<float> head_weights(const layers::AttentionRecord& record, int head);

struct HeadChoice {
  int layer = 0;
  int head = 0;
  bool operator==(const HeadChoice&) const = default;
};

// The heads that a word is asked through, most fitting first; see make_report. At least one.
std::vector<HeadChoice> fitting_heads(const Run& run, const PieceMap& map, int word);

// What a head was measured to do, farthest above chance first.
std::vector<Role> roles_of(std::span<const models::HeadRole> roles, int layer, int head);
// The one of them that it is asked for: coreference if it has that role and a pronoun asks, else the first.
Role role_for(std::span<const models::HeadRole> roles, HeadChoice at, bool pronoun);

}  // namespace qkv::lens
