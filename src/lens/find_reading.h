// What a finder read while it looked for what a prompt names, as one report: for the presence token and every object, by decoder
// layer and head, the shares of the prompt's words and of the picture's patches. All of it from the tape of the run.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layers/tape.h"
#include "lens/words.h"
#include "models/finder/answer.h"
#include "models/tokenizer.h"

namespace qkv::lens {

// What is looked at; all of it stays the caller's.
struct FindRun {
  std::string_view prompt;
  std::string_view language;              // of the prompt
  std::span<const models::Piece> pieces;  // as they were asked, the end included
  models::finder::Frame frame;            // where the picture lay in the square that the model saw
  int image = 0;                          // pixels a side of that square
  const models::finder::Answer* answer = nullptr;
  const models::finder::Output* output = nullptr;
  const layers::AttentionTape* tape = nullptr;    // of ask
  const layers::AttentionTape* looked = nullptr;  // of look, for the page
};

// What one query read through one head, or on average over the heads of a layer.
struct FindReading {
  std::vector<float> words;    // [FindReadings::words], adds to 1
  std::vector<float> patches;  // [side · side], row by row, adds to 1
};

struct FindLayer {
  FindReading mean;
  std::vector<FindReading> heads;
};

// One that asked: the presence token or an object.
struct FindAsker {
  int object = -1;  // index into Answer::objects; −1: the presence token
  float score =
      0;  // of the object, or how probable it is that the picture holds what the prompt names
  std::vector<FindLayer> layers;
  std::vector<float>
      cover{};  // [side · side]: how much of each patch is the object's; empty for the presence token
};

struct FindReadings {
  std::string prompt;
  std::vector<Word> words;  // the prompt's, then the model's mark
  int prompt_words = 0;
  std::int64_t side = 0;         // patches along each side of the square
  std::vector<bool> inside;      // [side · side]: patches that show some of the picture
  std::vector<FindAsker> asked;  // the presence token, then the objects, best first
};

// Throws std::invalid_argument if the tape has no decoder layer, or is of another prompt.
FindReadings read_run(const FindRun& run);

// For each asker the words it read, by layer, beside a map of at most 16 × 16 cells in block characters.
struct Screen;
std::string to_terminal(const FindReadings& report, const Screen& screen);

// How much of what was read lies on the object: Σ patches·cover; and by chance: the mean of cover over the patches inside.
struct OnObject {
  double share = 0;
  double chance = 0;
};
OnObject on_object(const FindReadings& report, const FindAsker& asker, const FindReading& reading);

// ---- parts

// The records "decoder.N.WHAT" (words, picture, self), or "picture.N.self", in the order of the layers.
std::vector<const layers::AttentionRecord*> finder_records(const layers::AttentionTape& tape,
                                                           std::string_view block,
                                                           std::string_view what);

// Patches along each side of the square, by a record of queries over patches.
std::int64_t patch_side(const layers::AttentionRecord& picture);

// [side · side] how much of each patch the mask covers; a pixel counts for the patch in which its middle lies.
std::vector<float> cover_of(const FindRun& run, const models::finder::Object& object,
                            std::int64_t side);

}  // namespace qkv::lens
