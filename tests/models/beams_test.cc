// Beam bookkeeping and score processing on small examples worked out by hand; test_marian_parity.py compares with generate().
#include "models/beams.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "models/search.h"

namespace qkv::models {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

GenerationConfig config_of(int beams, int max_length = 10) {
  GenerationConfig config;
  config.num_beams = beams;
  config.max_length = max_length;
  config.eos_token_ids = {0};
  config.decoder_start_token_id = 9;
  return config;
}

std::vector<int> ids_of(const Beams& beams, int node) {
  std::vector<int> ids;
  for (; node > 0; node = beams.node(node).parent) ids.insert(ids.begin(), beams.node(node).id);
  return ids;
}

TEST(Beams, AnEndedBeamWaitsForBetterOnes) {
  const GenerationConfig config = config_of(2);
  Beams beams(config);
  EXPECT_EQ(beams.wanted(), 4);
  beams.advance({{-1, 0, 5}, {-2, 0, 0}, {-3, 0, 6}, {-4, 0, 7}}, {0, 1});
  EXPECT_FALSE(beams.finished());
  EXPECT_EQ(ids_of(beams, beams.running()[0].node), (std::vector<int>{5}));
  EXPECT_EQ(ids_of(beams, beams.running()[1].node), (std::vector<int>{6}));
  EXPECT_EQ(ids_of(beams, beams.best().node), (std::vector<int>{0}));  // −2 / 1
  beams.advance({{-1.5f, 0, 0}, {-3.5f, 1, 0}, {-9, 0, 5}, {-9.5f, 1, 5}}, {0, 1});
  // both places are taken by −1.5/2 and −3.5/2 … and −2/1 is out; the running −9/2 cannot improve on them
  EXPECT_TRUE(beams.finished());
  EXPECT_EQ(ids_of(beams, beams.best().node), (std::vector<int>{5, 0}));
  EXPECT_FLOAT_EQ(beams.best().score, -0.75f);
}

TEST(Beams, CandidatesBelowTheBestDoNotEnd) {
  const GenerationConfig config = config_of(2);
  Beams beams(config);
  beams.advance({{-1, 0, 5}, {-2, 0, 6}, {-3, 0, 0}, {-4, 0, 7}}, {0, 1});
  EXPECT_EQ(beams.best().score, -1e9f);  // the end stood third
}

TEST(Beams, TheLongestLengthEndsAll) {
  const GenerationConfig config = config_of(2, 2);
  Beams beams(config);
  beams.advance({{-1, 0, 5}, {-2, 0, 6}, {-3, 0, 7}, {-4, 0, 8}}, {0, 1});
  EXPECT_TRUE(beams.finished());
  EXPECT_EQ(ids_of(beams, beams.best().node), (std::vector<int>{5}));
}

TEST(Beams, EarlyStoppingEndsWhenFull) {
  GenerationConfig config = config_of(2);
  for (const EarlyStopping rule :
       {EarlyStopping::heuristic, EarlyStopping::when_full, EarlyStopping::never}) {
    config.early_stopping = rule;
    config.eos_token_ids = {0, 1};
    Beams beams(config);
    beams.advance({{-1, 0, 0}, {-1.1f, 0, 1}, {-1.2f, 0, 5}, {-1.3f, 0, 6}, {-7, 0, 7}, {-8, 0, 8}},
                  {0, 1});
    // length 1: the running −1.2 is not above −1.1; with more length to come (never) it may become so
    EXPECT_EQ(beams.finished(), rule != EarlyStopping::never);
  }
}

TEST(ProcessScores, InTheOrderOfGenerate) {
  GenerationConfig config = config_of(1);
  std::vector<float> scores(10, 1);
  config.bad_words_ids = {{3}, {9, 4}, {8, 5}, {0}};
  const std::vector<int> start = {9};
  process_scores(config, start, scores);
  EXPECT_EQ(scores[3], kForbidden);
  EXPECT_EQ(scores[4], kForbidden);
  EXPECT_EQ(scores[5], 1);
  EXPECT_EQ(scores[0], 1);  // the end alone is never a bad word

  config.bad_words_ids.clear();
  config.min_length = 3;
  config.repetition_penalty = 2;
  config.no_repeat_ngram_size = 2;
  scores = {-1, 1, 1, 1, 1, 1, 1, 1, 1, -1};
  process_scores(config, std::vector<int>{9, 4}, scores);
  EXPECT_EQ(scores[0], kForbidden);
  EXPECT_EQ(scores[4], 0.5f);
  EXPECT_EQ(scores[9], -2);
  scores.assign(10, 1);
  process_scores(config, std::vector<int>{9, 4, 6, 4}, scores);
  EXPECT_EQ(scores[6], kForbidden);

  config = config_of(1, 5);
  config.forced_eos_token_ids = {0};
  config.forced_bos_token_id = 7;
  process_scores(config, start, scores);
  EXPECT_EQ(scores[7], 0);
  EXPECT_EQ(scores[6], kForbidden);
  process_scores(config, std::vector<int>{9, 1, 2, 3}, scores);
  EXPECT_EQ(scores[0], 0);
  EXPECT_EQ(scores[7], kForbidden);
}

}  // namespace
}  // namespace qkv::models
