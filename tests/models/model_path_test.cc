// find_model: where a bundled model is looked for, in which order, and what is said when it is
// nowhere.
#include "models/model_path.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>

namespace {

namespace fs = std::filesystem;

class ModelPath : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("qkv-models-" + std::to_string(::getpid()));
    fs::create_directories(root_);
    before_ = fs::current_path();
    fs::current_path(root_);
    unsetenv("QKV_MODELS");
  }
  void TearDown() override {
    unsetenv("QKV_MODELS");
    fs::current_path(before_);
    fs::remove_all(root_);
  }
  // Makes a model directory and returns it.
  fs::path make(const fs::path& where) const {
    fs::create_directories(root_ / where);
    std::ofstream(root_ / where / "config.json") << "{}";
    return root_ / where;
  }
  static std::string error_of(const std::string& name) {
    try {
      qkv::models::find_model(name);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "(found)";
  }

  fs::path root_, before_;
};

TEST_F(ModelPath, TakesADirectoryAsItIs) {
  const fs::path dir = make("somewhere/mine");
  EXPECT_EQ(qkv::models::find_model(dir.string()), dir);
  EXPECT_EQ(qkv::models::find_model("somewhere/mine"), fs::path("somewhere/mine"));
}

TEST_F(ModelPath, TakesABareNameInTheWorkingDirectoryOnlyWithAConfig) {
  make("mine");
  EXPECT_EQ(qkv::models::find_model("mine"), fs::path("mine"));
  fs::create_directories(root_ / "chance");
  make("models/chance");
  setenv("QKV_MODELS", (root_ / "models").c_str(), 1);
  EXPECT_EQ(qkv::models::find_model("chance"), root_ / "models/chance");
}

TEST_F(ModelPath, ReadsTheEnvironment) {
  const fs::path dir = make("elsewhere/one");
  setenv("QKV_MODELS", (root_ / "elsewhere").c_str(), 1);
  EXPECT_EQ(qkv::models::find_model("one"), dir);
}

TEST_F(ModelPath, SaysWhereItLooked) {
  make("elsewhere/one");
  setenv("QKV_MODELS", (root_ / "elsewhere").c_str(), 1);
  const std::string error = error_of("no-such-model");
  EXPECT_NE(error.find("\"no-such-model\" was not found"), std::string::npos) << error;
  EXPECT_NE(error.find((root_ / "elsewhere/no-such-model").string()), std::string::npos) << error;
  EXPECT_NE(error.find("share/qkv/models/no-such-model"), std::string::npos) << error;
  EXPECT_NE(error.find(std::string(QKV_SOURCE_DIR) + "/models/no-such-model"), std::string::npos)
      << error;
  EXPECT_NE(error.find("one"), std::string::npos) << error;
}

TEST_F(ModelPath, APathIsOnlyThatPath) {
  EXPECT_EQ(error_of("./nowhere"), "model directory \"./nowhere\" does not exist");
  EXPECT_NE(error_of("").find("empty"), std::string::npos);
}

}  // namespace
