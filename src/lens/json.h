// Reports as JSON, one object without line breaks; docs/json.md tells what the fields mean, docs/schema/ holds their schemas.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lens/alignment.h"
#include "lens/claims.h"
#include "lens/explain.h"
#include "lens/find_report.h"
#include "lens/report.h"
#include "lens/search_report.h"

namespace qkv::lens {

std::string to_json(const Report& report);
std::string to_json(const Explanation& explanation);
std::string to_json(const std::vector<Claim>& claims);
std::string to_json(const SearchReport& report);
std::string to_json(const FindReport& report);

// One translation. A text that was translated sentence by sentence has several alignments, in order; their words follow one
// another, and no word of one sentence read a word of another.
struct TranslationReport {
  std::string text;
  std::string source_language;
  std::string target_language;
  std::vector<Alignment> alignments;
  bool cut = false;  // the model's longest allowed output ended a sentence
};
std::string to_json(const TranslationReport& translation);

}  // namespace qkv::lens
