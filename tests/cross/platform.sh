# To be sourced: `platform` are the arguments by which INSTALL takes wheels for aarch64.
case " $INSTALL " in
  *"uv pip "*) platform=(--python-platform aarch64-manylinux_2_28 --only-binary :all:) ;;
  # pip takes no wheel for an older C library unless its name is listed.
  *) platform=(--implementation cp --only-binary=:all: --platform manylinux2014_aarch64)
     for minor in $(seq 17 36); do platform+=(--platform "manylinux_2_${minor}_aarch64"); done ;;
esac
