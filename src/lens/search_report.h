// What a search by meaning found: titles with their shares, and which of their words are near which words of the question.
//
// A word's state is the mean of the encoder's last states of its pieces; two words are as similar as the cosine of their states,
// which the encoder made in the light of the whole title and the whole question.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "library/library.h"
#include "models/sentence_encoder.h"

namespace qkv::lens {

struct WordMatch {
  std::string word;  // of the title
  int index = 0;     // among its words, from 0; marks of punctuation are not counted
  std::string like;  // the word of the question that is nearest to it
  double similarity = 0;
};

// From this similarity on a word counts as matched where only the best are shown.
inline constexpr double kMatched = 0.5;

struct SearchHit {
  std::int64_t row = 0;  // from 0, in the order of the file
  std::uint64_t line = 0;
  std::string title;
  double weight = 0;
  double score = 0;
  std::vector<WordMatch> words;
};

struct SearchReport {
  std::string query;
  std::string file, column, model;
  std::int64_t rows = 0;
  std::uint64_t skipped = 0, blank = 0;  // rows of the file that are not among them
  double temperature = 0;
  double remainder = 0;
  double entropy = 0;
  std::vector<SearchHit> hits;
};

// For each word of the title, in order, the word of the query whose state is nearest. Words behind what the encoder reads of a
// long text are left out.
std::vector<WordMatch> match_words(std::string_view title, const models::TokenStates& title_states,
                                   std::string_view query, const models::TokenStates& query_states);

}  // namespace qkv::lens
