// docker buildx bake            every image but LBM Eval's, whose wheels are the user's, and Ray's
// docker buildx bake simulator  one of them
// docker buildx bake ray        a node of a Ray cluster, with torch for CUDA
// LBM_EVAL_WHEELS=... docker buildx bake lbm-eval

variable "BASE_IMAGE" { default = "python:3.11-slim-bookworm" }
variable "PIP_INDEX_URL" { default = "" }
variable "PIP_EXTRA_INDEX_URL" { default = "" }
variable "TORCH_INDEX_URL" { default = "https://download.pytorch.org/whl/cpu" }
variable "LBM_EVAL_WHEELS" { default = "./lbm-eval-wheels" }
variable "TAG" { default = "latest" }
variable "REVISION" { default = "unknown" }

group "default" {
  targets = ["policy-server", "simulator", "report", "trainer"]
}

target "image" {
  context    = "."
  dockerfile = "docker/Dockerfile"
  args = {
    BASE_IMAGE          = BASE_IMAGE
    PIP_INDEX_URL       = PIP_INDEX_URL
    PIP_EXTRA_INDEX_URL = PIP_EXTRA_INDEX_URL
    TORCH_INDEX_URL     = TORCH_INDEX_URL
  }
  labels = { "org.opencontainers.image.revision" = REVISION }
}

target "policy-server" {
  inherits = ["image"]
  target   = "policy-server"
  tags     = ["assay-policy-server:${TAG}"]
}

target "simulator" {
  inherits = ["image"]
  target   = "simulator"
  tags     = ["assay-simulator:${TAG}"]
}

target "report" {
  inherits = ["image"]
  target   = "report"
  tags     = ["assay-report:${TAG}"]
}

target "trainer" {
  inherits = ["image"]
  target   = "trainer"
  tags     = ["assay-trainer:${TAG}"]
}

target "policy-server-gpu" {
  inherits = ["policy-server"]
  args     = { TORCH = "cuda", TORCH_INDEX_URL = "" }
  tags     = ["assay-policy-server-gpu:${TAG}"]
}

target "ray" {
  inherits = ["image"]
  target   = "ray"
  args     = { TORCH = "cuda", TORCH_INDEX_URL = "" }
  tags     = ["assay-ray:${TAG}"]
}

target "lbm-eval" {
  inherits = ["image"]
  target   = "lbm-eval"
  contexts = { wheels = LBM_EVAL_WHEELS }
  tags     = ["assay-lbm-eval:${TAG}"]
}
