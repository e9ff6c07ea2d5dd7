// A run as one HTML page: every head's q, k and v, the engine's log-sum-exps and weights, and the modules of page/ that draw
// them. The page needs no network and no other file; docs/page.md tells what it shows.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lens/find_reading.h"
#include "lens/report.h"

namespace qkv::lens {

// What the decoder read of the source while it wrote a translation; all of it stays the caller's.
struct TranslationRun {
  std::string_view source_text;
  std::string_view source_language;
  std::span<const models::Piece> source_pieces;
  std::string_view target_text;
  std::string_view target_language;
  std::span<const models::Piece> target_pieces;
  const layers::AttentionTape* tape = nullptr;  // its cross layers are used
  std::span<const models::HeadRole> roles;
  const layers::AttentionTape* untrained = nullptr;  // the same before training
};

// The data of one run as a JSON object without line breaks, for run_page or a server. Of options, query, layer and head say
// where the page opens. Throws as make_report does.
std::string page_data(const Run& run, const ReportOptions& options);
// Throws std::invalid_argument if the tape has no cross layer.
std::string page_data(const TranslationRun& run);

// The picture that a finder saw, as the page shows it: PNG, of any size but the same proportions.
struct PagePicture {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::string_view png;  // the caller's
};
// One or several prompts asked of one picture, for find_page. Throws std::invalid_argument for no run, a picture without pixels, or a
// tape that is not a finder's.
std::string page_data(std::span<const FindRun> runs, const PagePicture& picture);

// One page over one or several runs (the sentences of a text); each is what page_data gave.
std::string run_page(std::span<const std::string> runs);

// The page over what page_data gave of a finder's runs.
std::string find_page(const std::string& data);

// The page that asks a server for its runs: GET look?text=… and translate?text=… answer with a JSON list of page_data, or with
// {"error": "…"}.
std::string live_page();

}  // namespace qkv::lens
