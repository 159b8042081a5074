#!/usr/bin/env bash
# Quantize a network with one command, then use the result.
#
#   examples/quantize_command.sh SOURCE IMAGES OUT [OPTIONS OF nybble quantize...]
#
# SOURCE is torchvision:resnet18@weights.pth, package.module:factory@weights or a model folder; IMAGES a folder with one folder per class,
# or with a labels.csv (file,label). A tenth of the photos is split off to choose and measure on; --val names others.
set -euo pipefail

if [ $# -lt 3 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
source=$1 images=$2 out=$3
shift 3

# Post-training in 8 bits takes minutes, and says what the network can do at best.
nybble quantize "$source" --images "$images" --out "$out/w8a8" --bits w8a8 --epochs 0 "$@"

# 4 bits, fine-tuned with learned step sizes. Killed, the same command goes on where it stopped, for --work keeps its state.
nybble quantize "$source" --images "$images" --out "$out/w4a4" --bits w4a4 --method lsq --work "$out/work" --report "$out/report" "$@"

# The settings that were used lie beside the model. Change them, layer by layer perhaps, and give them back with --config.
head -n 2 "$out/w4a4/quantize.yaml"
nybble inspect "$out/w4a4"
