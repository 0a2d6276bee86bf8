"""What of an episode is kept to look at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RecordingOptions:
    """What is kept of each episode besides its action log.

    video_cameras: filmed side by side; none for no video. meshcat_port: where a browser can watch.
    """

    video_cameras: tuple[str, ...] = ()
    save_meshcat: bool = False
    save_states: bool = False
    meshcat_port: int | None = None

    @property
    def draws(self) -> bool:
        """Whether the scene is drawn in three dimensions."""
        return self.save_meshcat or self.meshcat_port is not None

    @property
    def keeps_pictures(self) -> bool:
        return self.save_meshcat or bool(self.video_cameras)
