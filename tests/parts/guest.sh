#!/bin/bash
# guest.sh boot DISK PROGRAM SCRIPT
#
# Boots a small virtual machine with the distribution's own kernel and becomes it: ending this process for good is
# a power cut. Its disk is the image DISK (/dev/vda), PROGRAM lies at /bin/program with the libraries it needs, and
# SCRIPT (sh, busybox's tools) runs as root; what it prints goes to standard output after a line VM-BEGIN.
# Emulated, so ten times slower than the machine; no network. The kernel is downloaded once and kept.
. "$(dirname "$0")/lib.sh"
DIR=$PARTS_DIR/up/guest

make_kernel() {
  local package
  apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || apt-get -qq update
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
  [[ -n $package ]] || die "apt has no linux-image-cloud-amd64"
  (
    cd "$1"
    apt-get -qq -o APT::Sandbox::User=root download "$package"
    dpkg-deb -x ./*.deb root
    rm -f ./*.deb
    depmod -b root "$(ls root/lib/modules)"
  )
}

boot() {
  local disk=$1 program=$2 script=$3 kernel version tree file module
  need qemu-system-x86_64=qemu-system-x86 cpio busybox=busybox-static depmod=kmod
  [[ -e /usr/share/seabios/bios-256k.bin || -e /usr/share/qemu/bios-256k.bin ]] || install_packages seabios
  cached guest-kernel make_kernel
  kernel=$CACHE/guest-kernel/root
  version=$(ls "$kernel/lib/modules")
  mkdir -p "$DIR"
  tree=$(mktemp -d "$DIR/tree.XXXXXX")
  mkdir -p "$tree"/{bin,dev,proc,sys,tmp,modules,disk}
  cp -L "$(command -v busybox)" "$tree/bin/busybox"
  strip -o "$tree/bin/program" "$program" 2>/dev/null || cp -L "$program" "$tree/bin/program"
  for file in $(ldd "$program" | grep -o '/[^ ]*'); do
    mkdir -p "$tree$(dirname "$file")"
    cp -L "$file" "$tree$file"
  done
  for module in virtio_pci virtio_blk ext4; do
    modprobe -d "$kernel" -S "$version" --show-depends "$module"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
    cp "$module" "$tree/modules/"
    basename "$module" >>"$tree/modules/order"
  done
  cp "$script" "$tree/script"
  cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /tmp
for m in $(cat /modules/order); do insmod "/modules/$m"; done
echo VM-BEGIN
sh /script
echo "VM-END $?"
poweroff -f
INIT
  chmod +x "$tree/init"
  (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$tree.gz"
  rm -rf "$tree"
  # The image is read into memory before anything runs in it, so it can go as soon as it is open.
  exec 8<"$tree.gz"
  rm -f "$tree.gz"
  export VAULT_PART=$DIR
  exec qemu-system-x86_64 -accel tcg -cpu max -m 768 -display none -vga none -monitor none -serial stdio \
    -no-reboot -net none -kernel "$kernel/boot/vmlinuz-$version" -initrd /dev/fd/8 \
    -drive "file=$disk,if=virtio,format=raw" -append 'console=ttyS0 quiet loglevel=3 panic=-1' </dev/null
}

case $1 in
  boot) shift; boot "$@" ;;
  *) wrong_use "unknown verb $1" ;;
esac
