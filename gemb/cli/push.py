"""gemb push FOLDER OWNER/NAME: upload a model's folder to the Hugging Face hub.

FOLDER is a folder that `gemb train`, `gemb soup`, `gemb convert` or `save` wrote: it must load and
have a model card (README.md). The repository is created if it is missing. All files are uploaded in
one commit; unchanged files are not sent again. The token is that of `hf auth login`, or HF_TOKEN.

    gemb push --dry_run runs/quickstart/model me/code-search    # lists files and sizes only
    gemb push runs/quickstart/model me/code-search
    gemb push --private runs/quickstart/model me/code-search
    HF_ENDPOINT=https://hub.example.com gemb push runs/quickstart/model me/code-search
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_bool("private", False, "Create the repository as private.", allow_override=True)
flags.DEFINE_bool(
    "dry_run", False, "Only check the folder and list the files.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError

    if len(argv) != 2:
        raise UserError(f"expected FOLDER and OWNER/NAME, got {' '.join(argv) or 'nothing'}")
    from gemb.files import local_folder
    from gemb.pretrained.publishing.push import check_name, files_to_push, push

    folder, name = local_folder("FOLDER", argv[0]), argv[1]
    check_name(name)
    if FLAGS.dry_run:
        files = files_to_push(folder)
        for file, size in files.items():
            print(f"{size:>15,}  {file}")
        print(
            f"{sum(files.values()):>15,}  bytes in {len(files)} files would be uploaded to {name}"
        )
        return
    pushed = push(folder, name, private=FLAGS.private)
    print(pushed.address if pushed.changed else f"{pushed.address}: nothing has changed")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("push")
